#include "base/zip_codec.h"

#define ZLIB_CONST  // input that is not written to
#include <zlib.h>

#include <algorithm>

#include "base/invariant.h"

namespace sluice::base {
namespace {

constexpr std::size_t kStepBytes = 1u << 16;

}  // namespace

std::uint32_t crc32(Bytes bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

std::optional<Inflated> inflate(Bytes bytes, std::size_t bytes_max) {
  ::z_stream stream{};
  INVARIANT(::inflateInit2(&stream, -MAX_WBITS) == Z_OK);  // negative: without zlib's own header
  Inflated result;
  int state = Z_OK;
  while (state == Z_OK && result.bytes.size() < bytes_max) {
    if (stream.avail_in == 0) {
      // zlib counts in 32 bits.
      const Bytes next = bytes.first(std::min<std::size_t>(bytes.size(), kStepBytes));
      stream.next_in = reinterpret_cast<const unsigned char*>(next.data());
      stream.avail_in = static_cast<unsigned>(next.size());
      bytes = bytes.subspan(next.size());
    }
    const std::size_t done = result.bytes.size();
    result.bytes.resize(std::min(done + kStepBytes, bytes_max));
    stream.next_out = reinterpret_cast<unsigned char*>(result.bytes.data() + done);
    stream.avail_out = static_cast<unsigned>(result.bytes.size() - done);
    state = ::inflate(&stream, Z_NO_FLUSH);  // Z_BUF_ERROR when it needs more input and there is none
    result.bytes.resize(result.bytes.size() - stream.avail_out);
  }
  ::inflateEnd(&stream);
  result.complete = state == Z_STREAM_END;
  if (state != Z_OK && !result.complete) return std::nullopt;
  return result;
}

}  // namespace sluice::base
