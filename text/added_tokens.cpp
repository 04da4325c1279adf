// The search for added tokens. Source of the rules: tokenizers (Rust) 0.21, tokenizer/added_vocabulary.rs,
// find_matches(), which runs an automaton with leftmost-longest matches.

#include "text/added_tokens.h"

#include <algorithm>

#include "text/characters.h"

namespace sluice::text {
namespace {

/// The start of the character that ends before `end`.
std::size_t last_character(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80U) --begin;
  // Stray bytes that look like the inside of a character are one character each.
  return begin + character_at(text, begin).length_bytes == end ? begin : end - 1;
}

bool is_single_word(std::string_view text, TextRange range) {
  const auto is_word = [&](std::size_t at) { return is_word_character(character_at(text, at).code_point); };
  return (range.begin == 0 || !is_word(last_character(text, range.begin))) &&
         (range.end == text.size() || !is_word(range.end));
}

std::size_t white_space_begin(std::string_view text, std::size_t end) {
  while (end > 0) {
    const std::size_t begin = last_character(text, end);
    if (!character_at(text, begin).is_in(kWhiteSpace)) break;
    end = begin;
  }
  return end;
}

bool contains(std::span<const TextRange> ranges, TextRange range) {
  const auto after = std::ranges::upper_bound(ranges, range.begin, {}, &TextRange::begin);
  return after != ranges.begin() && range.end <= std::prev(after)->end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedTokenRule> rules) : rules_(std::move(rules)) {
  std::ranges::stable_sort(rules_, {}, &AddedTokenRule::text);
  const auto same_text = [](const AddedTokenRule& a, const AddedTokenRule& b) { return a.text == b.text; };
  rules_.erase(std::unique(rules_.begin(), rules_.end(), same_text), rules_.end());
  any_needs_trust_ = std::ranges::any_of(rules_, &AddedTokenRule::needs_trust);
  for (const AddedTokenRule& rule : rules_) ++first_byte_[static_cast<unsigned char>(rule.text.front()) + 1U];
  for (std::size_t byte = 0; byte < 256; ++byte) first_byte_[byte + 1] += first_byte_[byte];
}

std::vector<AddedTokenMatch> AddedTokenFinder::find(std::string_view text,
                                                    std::span<const TextRange> trusted) const {
  std::vector<AddedTokenMatch> matches;
  if (rules_.empty()) return matches;
  std::size_t done = 0;  // the end of the last match, with the white space that it took
  for (std::size_t at = 0; at < text.size();) {
    const Found found = longest_at(text, at, trusted);
    if (found.rule == nullptr) {
      ++at;
      continue;
    }
    TextRange range{at, found.end};
    at = found.end;
    if (found.rule->single_word && !is_single_word(text, range)) continue;
    if (found.rule->left_strip) range.begin = std::max(white_space_begin(text, range.begin), done);
    if (found.rule->right_strip) range.end = run_end(text, range.end, kWhiteSpace);
    matches.push_back({range, found.rule->id});
    done = range.end;
  }
  return matches;
}

// Narrows the sorted rules byte by byte to those with which the text goes on.
AddedTokenFinder::Found AddedTokenFinder::longest_at(std::string_view text, std::size_t at,
                                                     std::span<const TextRange> trusted) const {
  const auto first = static_cast<unsigned char>(text[at]);
  auto begin = rules_.begin() + first_byte_[first];
  auto end = rules_.begin() + first_byte_[first + 1U];
  Found longest;
  for (std::size_t length = 1; begin != end; ++length) {
    // Among the rules that share these bytes, the one that ends here comes first.
    if (begin->text.size() == length) {
      const TextRange match{at, at + length};
      const bool is_allowed =
          begin->needs_trust ? contains(trusted, match) : !hides_trusted(text, match, trusted);
      if (is_allowed) longest = {&*begin, match.end};
      ++begin;
    }
    if (at + length == text.size()) break;
    const auto byte_of = [&](const AddedTokenRule& rule) {
      return static_cast<unsigned char>(rule.text[length]);
    };
    const auto byte = static_cast<unsigned char>(text[at + length]);
    begin = std::ranges::lower_bound(begin, end, byte, {}, byte_of);
    end = std::ranges::upper_bound(begin, end, byte, {}, byte_of);
  }
  return longest;
}

// Without this, who writes the text in front of a template's control piece could write the start of a longer
// token, and so make the piece disappear.
bool AddedTokenFinder::hides_trusted(std::string_view text, TextRange match,
                                     std::span<const TextRange> trusted) const {
  if (!any_needs_trust_ || contains(trusted, match)) return false;
  const auto range = std::ranges::upper_bound(trusted, match.begin, {}, &TextRange::end);
  if (range == trusted.end() || range->begin >= match.end) return false;
  for (std::size_t at = match.begin + 1; at < match.end; ++at) {
    const auto first = static_cast<unsigned char>(text[at]);
    for (auto rule = rules_.begin() + first_byte_[first]; rule != rules_.begin() + first_byte_[first + 1U];
         ++rule)
      if (rule->needs_trust && text.substr(at).starts_with(rule->text) &&
          contains(trusted, {at, at + rule->text.size()}))
        return true;
  }
  return false;
}

}  // namespace sluice::text
