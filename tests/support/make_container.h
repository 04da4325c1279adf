#pragma once
// Containers for tests: a release converted into a temporary folder.

#include <filesystem>
#include <stop_token>

#include "base/progress.h"
#include "convert/convert.h"

namespace sluice::tests {

inline std::filesystem::path make_container(const std::filesystem::path& release,
                                            const std::filesystem::path& output, convert::Quant quant) {
  base::NoProgress progress;
  convert::Request request;
  request.input = release;
  request.output = output;
  request.quant = quant;
  request.thread_count = 2;
  static_cast<void>(convert::convert(request, progress, {}));
  return output;
}

}  // namespace sluice::tests
