// Any bytes as a magnet link, and as a text file with a link: read, or refused with an Error.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "fetch/fetch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    static_cast<void>(sluice::fetch::find_link(text, "file"));
  } catch (const sluice::base::Error&) {
  }
  try {
    static_cast<void>(sluice::fetch::parse_magnet(text));
  } catch (const sluice::base::Error&) {
  }
  return 0;
}
