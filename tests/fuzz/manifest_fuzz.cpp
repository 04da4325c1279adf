// Manifests and checksum lists from strangers.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "format/manifest.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const format::Manifest manifest = format::parse_manifest(text, "fuzz");
    // What was accepted can be written, and reads back as the same.
    const std::string written = format::to_text(manifest);
    INVARIANT(format::to_text(format::parse_manifest(written, "again")) == written);
  } catch (const base::Error&) {
  }
  try {
    const std::string sums = format::sums_text(format::parse_sums(text).files);
    INVARIANT(format::sums_text(format::parse_sums(sums).files) == sums);
  } catch (const base::Error&) {
  }
  return 0;
}
