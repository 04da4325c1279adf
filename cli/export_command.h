#pragma once
// `sluice convert --to gguf` and `--to safetensors`.

#include <cstdint>
#include <string>

#include "cli/commands.h"

namespace sluice::cli {

struct ExportArguments {
  std::string input;
  std::string output;  ///< empty: NAME-QUANT.gguf, or the folder NAME-safetensors
  std::string quant;   ///< empty: the values exactly as they are
  std::string to;      ///< "gguf" or "safetensors"
  std::uint64_t memory_bytes = 0;
  unsigned thread_count = 1;
  std::string name;  ///< the release's name, when it was verified just now
  std::string licence;
};

int export_command(const ExportArguments& arguments, const Invocation& invocation);

}  // namespace sluice::cli
