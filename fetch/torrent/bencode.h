#pragma once
// Writes bencode (BEP 3). The keys of a dictionary must be written in sorted order; the few places that make
// one do so by hand.

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::fetch::bencode {

inline void append(std::string& out, std::string_view text) {
  out += std::to_string(text.size());
  out += ':';
  out += text;
}

inline void append(std::string& out, std::uint64_t number) {
  out += 'i';
  out += std::to_string(number);
  out += 'e';
}

}  // namespace sluice::fetch::bencode
