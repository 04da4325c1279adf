// Any bytes as a .torrent: read, or refused with an Error.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "fetch/fetch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    static_cast<void>(
        sluice::fetch::parse_torrent(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz"));
  } catch (const sluice::base::Error&) {
  }
  return 0;
}
