// The container's directory. Its SHA-256 keeps a fuzzer out of it, so the text is the input here.

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "format/container_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto directory = format::parse_directory(text, "fuzz");
    format::check_directory(directory, 1u << 30, format::root_digest(directory.tensors), "fuzz");
  } catch (const base::Error&) {  // refused, as it should be
  }
  return 0;
}
