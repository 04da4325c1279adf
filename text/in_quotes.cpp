#include "text/in_quotes.h"

#include "base/text.h"

namespace sluice::text {

std::string in_quotes(std::string_view text, std::size_t bytes_max) {
  const bool is_cut = text.size() > bytes_max;
  if (is_cut) {
    // Never within a character.
    while (bytes_max > 0 && (static_cast<unsigned char>(text[bytes_max]) & 0xC0U) == 0x80U) --bytes_max;
    text = text.substr(0, bytes_max);
  }
  return "'" + base::to_printable(text) + (is_cut ? "...'" : "'");
}

}  // namespace sluice::text
