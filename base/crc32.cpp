#include "base/crc32.h"

#include <zlib.h>

namespace sluice::base {

std::uint32_t crc32(Bytes bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

}  // namespace sluice::base
