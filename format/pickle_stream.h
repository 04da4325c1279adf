#pragma once
// Splits the bytes of a pickle into opcodes and their arguments; checks each length before it uses it.
// pickle.cpp gives the opcodes their meaning.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace sluice::format {

/// Longer than any name of a tensor, a global or a device.
constexpr std::size_t kPickleStringBytesMax = 4096;

class PickleStream final {
 public:
  PickleStream(base::Bytes bytes, std::string_view subject) : bytes_(bytes), subject_(subject) {}

  [[nodiscard]] std::uint8_t next_opcode() {
    opcode_offset_ = offset_;
    return number<std::uint8_t>();
  }

  template <typename T>
  [[nodiscard]] T number() {
    return base::load_le<T>(take(sizeof(T)));
  }

  [[nodiscard]] std::string_view text(std::size_t length_bytes) {
    if (length_bytes > kPickleStringBytesMax) {
      refuse("a string of " + std::to_string(length_bytes) + " bytes, more than " +
             std::to_string(kPickleStringBytesMax));
    }
    const std::string_view found = base::as_text(take(length_bytes));
    if (!base::is_utf8(found)) refuse("a string that is no UTF-8");
    return found;
  }

  [[nodiscard]] std::string_view line() {
    const std::string_view rest = base::as_text(bytes_.subspan(offset_)).substr(0, kPickleStringBytesMax);
    const std::size_t length = rest.find('\n');
    if (length == std::string_view::npos) refuse("a name without an end");
    offset_ += length + 1;
    return rest.substr(0, length);
  }

  /// A two's-complement number of `length_bytes` bytes.
  [[nodiscard]] std::int64_t long_number(std::size_t length_bytes) {
    // LONG1 permits 255 bytes; numbers of elements and strides fit 8.
    if (length_bytes > sizeof(std::int64_t)) refuse("a number of " + std::to_string(length_bytes) + " bytes");
    std::uint64_t value = 0;
    const base::Bytes digits = take(length_bytes);
    for (std::size_t i = 0; i < digits.size(); ++i)
      value |= std::to_integer<std::uint64_t>(digits[i]) << (8 * i);
    if (!digits.empty() && digits.size() < 8 && (std::to_integer<unsigned>(digits.back()) & 0x80) != 0) {
      value |= ~std::uint64_t{0} << (8 * digits.size());
    }
    return static_cast<std::int64_t>(value);
  }

  [[nodiscard]] bool at_start() const { return opcode_offset_ == 0; }
  [[nodiscard]] std::size_t rest_bytes() const { return bytes_.size() - offset_; }

  [[noreturn]] void refuse(const std::string& cause) const {
    base::throw_malformed(subject_, "offset " + std::to_string(opcode_offset_) + ": " + cause);
  }

 private:
  [[nodiscard]] base::Bytes take(std::size_t length_bytes) {
    if (length_bytes > rest_bytes()) refuse("the pickle ends before it says STOP");
    const base::Bytes taken = bytes_.subspan(offset_, length_bytes);
    offset_ += length_bytes;
    return taken;
  }

  base::Bytes bytes_;
  std::string_view subject_;
  std::size_t offset_ = 0;
  std::size_t opcode_offset_ = 0;
};

}  // namespace sluice::format
