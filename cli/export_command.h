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
  bool overwrite = false;
  bool allow_damaged = false;
  std::uint64_t memory_bytes = 0;
  unsigned thread_count = 1;
};

/// Verifies a release first and takes its name and licence.
int export_command(const ExportArguments& arguments, const Invocation& invocation);

}  // namespace sluice::cli
