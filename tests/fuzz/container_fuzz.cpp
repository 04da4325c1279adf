// The container's directory. Its SHA-256 keeps a fuzzer out of it, so the text is the input here.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/invariant.h"
#include "format/container_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto directory = format::parse_directory(text, "fuzz");
    // What was accepted has one text, with the same model.
    const std::string again = format::to_text(directory);
    INVARIANT(format::parse_directory(again, "again").description == directory.description);
    INVARIANT(format::to_text(format::parse_directory(again, "again")) == again);
    format::ContainerFooter footer;
    footer.directory_offset_bytes = 1u << 30;
    footer.version = directory.version;
    footer.root = format::stored_root(format::digests_of(directory), directory.version);
    static_cast<void>(format::check_directory(directory, footer, "fuzz"));
  } catch (const base::Error&) {  // refused, as it should be
  }
  return 0;
}
