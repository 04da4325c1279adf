// Text that grows token by token (rules in text.h). Bytes pass through two buffers: `bytes_` holds the start
// of a character until it is whole, and `held_` holds whole characters as long as they could be the start of
// a stop text. Both are short, so the searches below cost little for each token.

#include <algorithm>
#include <utility>

#include "base/invariant.h"
#include "base/text.h"
#include "text/text.h"

namespace sluice::text {
namespace {

/// The bytes that one U+FFFD replaces where no character begins: as many as a character could have begun
/// with (The Unicode Standard, section 3.9, "maximal subpart"), as in Python and in Hugging Face's
/// tokenizers.
std::size_t broken_bytes(std::string_view text) {
  std::size_t count = 1;
  while (count < text.size() && base::utf8_length(text.substr(0, count + 1)) < 0) ++count;
  return count;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::span<const std::string> stop_texts)
    : tokenizer_(tokenizer), stop_texts_(stop_texts.begin(), stop_texts.end()) {
  INVARIANT(std::ranges::none_of(stop_texts_, &std::string::empty));
}

std::string TextStream::add(TokenId token) {
  if (stopped_) return {};
  bytes_ += tokenizer_.piece_bytes(token);
  return pass(take_characters(/*at_end=*/false));
}

std::string TextStream::finish() {
  if (stopped_) return {};
  std::string text = pass(take_characters(/*at_end=*/true));
  if (!stopped_) text += std::exchange(held_, {});
  return text;
}

// utf8_length() is negative for bytes that may still become a character, and 0 for bytes that never will.
std::string TextStream::take_characters(bool at_end) {
  std::string text;
  std::string_view rest = bytes_;
  while (!rest.empty()) {
    const int length = base::utf8_length(rest);
    if (length < 0 && !at_end) break;
    if (length > 0) {
      text += rest.substr(0, static_cast<std::size_t>(length));
      rest.remove_prefix(static_cast<std::size_t>(length));
    } else {
      text += "\uFFFD";
      rest.remove_prefix(tokenizer_.marks_each_broken_byte() ? 1 : broken_bytes(rest));
    }
  }
  bytes_.erase(0, bytes_.size() - rest.size());
  return text;
}

std::string TextStream::pass(std::string_view text) {
  held_ += text;
  std::size_t begin = std::string::npos;
  std::size_t end = std::string::npos;
  for (const std::string& stop : stop_texts_) {
    const std::size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    // The stop text that is complete first ends the text, whatever the order of the list; of two that end
    // together the longer one, so that none of it is shown.
    if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
      begin = at;
      end = at + stop.size();
    }
  }
  stopped_ = begin != std::string::npos;
  const std::size_t shown_bytes = stopped_ ? begin : held_.size() - stop_prefix_bytes();
  std::string shown = held_.substr(0, shown_bytes);
  held_.erase(0, stopped_ ? held_.size() : shown_bytes);
  return shown;
}

std::size_t TextStream::stop_prefix_bytes() const {
  std::size_t longest = 0;
  for (const std::string& stop : stop_texts_) {
    // A whole stop text cannot stand at the end: pass() has looked for it before.
    for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > longest; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace sluice::text
