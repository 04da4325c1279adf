// The expressions of released pre-tokenizers, each as a function that finds the end of a match at one place.
//
// The functions give what a backtracking engine gives. Alternatives are tried in order and repetitions are
// greedy; where the characters after a repetition can be of its own class, the comment says how far it gives
// characters back. Every function reads a character a constant number of times in all matches together, so
// that a text takes linear time. Case is ignored as Unicode's simple case folding does it: U+017F is an s.

#include "text/pre_tokenizer.h"

#include <algorithm>
#include <array>

#include "format/gguf/gguf_splits.h"
#include "text/characters.h"
#include "text/spelled_sets.h"

namespace sluice::text {
namespace {

using enum CharacterClass;

constexpr ClassSet kCasedUpper = classes(upper, letter, mark);  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
constexpr ClassSet kCasedLower = classes(lower, letter, mark);  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
constexpr ClassSet kSigns = classes(punctuation, symbol);       // [\p{P}\p{S}]

/// Turns "the end of a match at `from`, or `from`" into a SplitFinder.
template <std::size_t (*kMatchAt)(std::string_view, std::size_t)>
TextRange find_from(std::string_view piece, std::size_t from) {
  while (from < piece.size()) {
    if (const std::size_t end = kMatchAt(piece, from); end > from) return {from, end};
    from += character_at(piece, from).length_bytes;
  }
  return {piece.size(), piece.size()};
}

bool is_ascii_letter(char byte) { return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'); }

/// True where a character of `set` begins at `at`; false at the end.
bool has(std::string_view text, std::size_t at, ClassSet set) {
  return at < text.size() && character_at(text, at).is_in(set);
}

/// (?:'s|'t|'re|'ve|'m|'ll|'d) with or without (?i)
template <bool kIgnoreCase>
std::size_t match_contraction(std::string_view text, std::size_t at) {
  if (at + 1 >= text.size() || text[at] != '\'') return at;
  const auto letter_at = [&](std::size_t place) -> char {
    if (place >= text.size()) return 0;
    const char byte = text[place];
    return kIgnoreCase && byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte;
  };
  const char first = letter_at(at + 1);
  const char second = letter_at(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (kIgnoreCase && text.substr(at + 1).starts_with("\u017F")) return at + 3;
  return at;
}

/// \p{N}{1,kDigitsMax}, where 0 is without limit
template <std::size_t kDigitsMax>
std::size_t match_digits(std::string_view text, std::size_t at) {
  if (kDigitsMax == 0) return run_end(text, at, kNumbers);
  for (std::size_t count = 0; count < kDigitsMax && has(text, at, kNumbers); ++count)
    at += character_at(text, at).length_bytes;
  return at;
}

/// \s+(?!\S)|\s+ on the run of white space from `at` to `end`
std::size_t match_spaces(std::string_view text, std::size_t at, std::size_t end) {
  if (end == at || end == text.size()) return end;
  // The last character is given back, unless nothing would be left.
  std::size_t last = end - 1;
  while (last > at && (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U) --last;
  return last > at ? last : end;
}

/// \s*[\r\n]+|\s+(?!\S)|\s+
std::size_t match_white_space(std::string_view text, std::size_t at) {
  const std::size_t end = run_end(text, at, kWhiteSpace);
  // \s* takes the whole run and gives back as far as the last line end.
  const std::size_t newline = text.substr(at, end - at).find_last_of("\r\n");
  return newline != std::string_view::npos ? at + newline + 1 : match_spaces(text, at, end);
}

/// " ?SET+" and then any of `tail`
std::size_t match_signs(std::string_view text, std::size_t at, ClassSet set, std::string_view tail) {
  const std::size_t begin = at + static_cast<std::size_t>(text[at] == ' ');
  std::size_t end = run_end(text, begin, set);
  if (end == begin) return at;
  while (end < text.size() && tail.find(text[end]) != std::string_view::npos) ++end;
  return end;
}

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,kDigitsMax}| ?[^\s\p{L}\p{N}]+[\r\n]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+, with [\p{L}\p{M}] for \p{L} after the first [^..] where kMarksInWords
template <std::size_t kDigitsMax, bool kMarksInWords>
std::size_t match_words(std::string_view text, std::size_t at) {
  constexpr ClassSet kWord = kMarksInWords ? kLetters | kMarks : kLetters;
  constexpr ClassSet kNoSign = kWhiteSpace | kWord | kNumbers;
  const Character first = character_at(text, at);
  const std::size_t second = at + first.length_bytes;
  if (first.is_in(kWord)) return run_end(text, second, kWord);
  if (const std::size_t end = match_contraction<true>(text, at); end > at) return end;
  if (first.is_in(kNumbers)) return match_digits<kDigitsMax>(text, at);
  if (!first.is_in(kNewlines) && has(text, second, kWord)) return run_end(text, second, kWord);
  if (const std::size_t end = match_signs(text, at, all_but(kNoSign), "\r\n"); end > at) return end;
  return match_white_space(text, at);
}

/// Whether the letters of the script Han count as letters of words.
enum class Scripts : std::uint8_t { all, without_han };

/// run_end(), for [SET&&[^\p{Han}]] where kScripts says so.
template <Scripts kScripts>
std::size_t cased_end(std::string_view text, std::size_t at, ClassSet set) {
  if (kScripts == Scripts::all) return run_end(text, at, set);
  while (at < text.size()) {
    const Character character = character_at(text, at);
    if (!character.is_in(set) || is_in(character.code_point, kHan)) break;
    at += character.length_bytes;
  }
  return at;
}

/// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
template <Scripts kScripts>
std::size_t match_lower_word(std::string_view text, std::size_t at) {
  const std::size_t upper_end = cased_end<kScripts>(text, at, kCasedUpper);
  if (const std::size_t end = cased_end<kScripts>(text, upper_end, kCasedLower); end > upper_end) return end;
  // The first repetition gives back as far as the last character that the second one takes, too.
  for (std::size_t end = upper_end; end > at;) {
    std::size_t begin = end - 1;
    while ((static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80U) --begin;
    if (has(text, begin, kCasedLower)) return end;
    end = begin;
  }
  return at;
}

/// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
template <Scripts kScripts>
std::size_t match_upper_word(std::string_view text, std::size_t at) {
  const std::size_t upper_end = cased_end<kScripts>(text, at, kCasedUpper);
  return upper_end == at ? at : cased_end<kScripts>(text, upper_end, kCasedLower);
}

/// [^\r\n\p{L}\p{N}]?LOWER_WORD|[^\r\n\p{L}\p{N}]?UPPER_WORD
template <Scripts kScripts>
std::size_t match_cased_word(std::string_view text, std::size_t at) {
  const Character first = character_at(text, at);
  const std::size_t second = at + first.length_bytes;
  const bool has_prefix = !first.is_in(kNewlines | kLetters | kNumbers);
  if (has_prefix)
    if (const std::size_t end = match_lower_word<kScripts>(text, second); end > second) return end;
  if (const std::size_t end = match_lower_word<kScripts>(text, at); end > at) return end;
  if (has_prefix)
    if (const std::size_t end = match_upper_word<kScripts>(text, second); end > second) return end;
  return match_upper_word<kScripts>(text, at);
}

/// CASED_WORD|\p{N}{1,kDigitsMax}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+, a word with a
/// contraction
/// (?i:'s|'t|'re|'ve|'m|'ll|'d)? behind it where kContractions
template <std::size_t kDigitsMax, bool kContractions>
std::size_t match_cased(std::string_view text, std::size_t at) {
  if (const std::size_t end = match_cased_word<Scripts::all>(text, at); end > at)
    return kContractions ? match_contraction<true>(text, end) : end;
  if (const std::size_t end = match_digits<kDigitsMax>(text, at); end > at) return end;
  constexpr ClassSet kNoSign = kWhiteSpace | kLetters | kNumbers;
  if (const std::size_t end = match_signs(text, at, all_but(kNoSign), "\r\n/"); end > at) return end;
  return match_white_space(text, at);
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t match_gpt2(std::string_view text, std::size_t at) {
  if (const std::size_t end = match_contraction<false>(text, at); end > at) return end;
  constexpr ClassSet kNoSign = kWhiteSpace | kLetters | kNumbers;
  for (const ClassSet set : {kLetters, kNumbers, all_but(kNoSign)})
    if (const std::size_t end = match_signs(text, at, set, ""); end > at) return end;
  return match_spaces(text, at, run_end(text, at, kWhiteSpace));
}

/// [一-龥぀-ゟ゠-ヿ]+
std::size_t match_han_and_kana(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const Character character = character_at(text, at);
    const char32_t code_point = character.code_point;
    const bool is_member =
        (code_point >= 0x4E00 && code_point <= 0x9FA5) || (code_point >= 0x3040 && code_point <= 0x30FF);
    if (!is_member) break;
    at += character.length_bytes;
  }
  return at;
}

/// [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|
/// \s+(?!\S)|\s+
std::size_t match_deepseek_words(std::string_view text, std::size_t at) {
  constexpr ClassSet kWord = kLetters | kMarks;
  const Character first = character_at(text, at);
  const std::size_t second = at + first.length_bytes;
  if (first.code_point < 0x80 && first.is_in(kSigns) && second < text.size() &&
      is_ascii_letter(text[second])) {
    std::size_t end = second;
    while (end < text.size() && is_ascii_letter(text[end])) ++end;
    return end;
  }
  if (first.is_in(kWord)) return run_end(text, second, kWord);
  if (!first.is_in(kNewlines | kSigns) && has(text, second, kWord)) return run_end(text, second, kWord);
  if (const std::size_t end = match_signs(text, at, kSigns, "\r\n"); end > at) return end;
  return match_white_space(text, at);
}

/// [\r\n]
std::size_t match_newline(std::string_view text, std::size_t at) {
  return text[at] == '\r' || text[at] == '\n' ? at + 1 : at;
}

/// \s?SET+
template <ClassSet kSet>
std::size_t match_after_space(std::string_view text, std::size_t at) {
  const Character first = character_at(text, at);
  const std::size_t begin = first.is_in(kWhiteSpace) ? at + first.length_bytes : at;
  const std::size_t end = run_end(text, begin, kSet);
  return end > begin ? end : at;
}

/// [一-龥ࠀ-一가-퟿]+
std::size_t match_non_latin(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const Character character = character_at(text, at);
    const char32_t code_point = character.code_point;
    const bool is_member =
        (code_point >= 0x0800 && code_point <= 0x9FA5) || (code_point >= 0xAC00 && code_point <= 0xD7FF);
    if (!is_member) break;
    at += character.length_bytes;
  }
  return at;
}

template <std::size_t N>
std::size_t run_end(std::string_view text, std::size_t at, const std::array<CharacterRange, N>& set) {
  while (at < text.size()) {
    const Character character = character_at(text, at);
    // A byte that is part of no character has the code point of U+FFFD, which is in no set.
    if (!is_in(character.code_point, set)) break;
    at += character.length_bytes;
  }
  return at;
}

/// [\p{Han}]+|CASED_WORD(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
/// \s+(?!\S)|\s+, with words without Han
std::size_t match_kimi(std::string_view text, std::size_t at) {
  if (const std::size_t end = run_end(text, at, kHan); end > at) return end;
  if (const std::size_t end = match_cased_word<Scripts::without_han>(text, at); end > at)
    return match_contraction<true>(text, end);
  if (const std::size_t end = match_digits<3>(text, at); end > at) return end;
  constexpr ClassSet kNoSign = kWhiteSpace | kLetters | kNumbers;
  if (const std::size_t end = match_signs(text, at, all_but(kNoSign), "\r\n"); end > at) return end;
  return match_white_space(text, at);
}

/// \s?SET+ for a set that is spelled out. It may have white space itself (U+3000), which \s? then gives back
/// where nothing of the set follows.
template <const auto& kSet>
std::size_t match_spelled(std::string_view text, std::size_t at) {
  const Character first = character_at(text, at);
  if (first.is_in(kWhiteSpace)) {
    const std::size_t begin = at + first.length_bytes;
    if (const std::size_t end = run_end(text, begin, kSet); end > begin) return end;
  }
  return run_end(text, at, kSet);
}

/// \s+$ in a piece without line ends but for those that are pieces of their own. A run that does not reach
/// the end is read once.
TextRange find_trailing_space(std::string_view piece, std::size_t from) {
  std::size_t begin = piece.size();
  for (std::size_t at = from; at < piece.size();) {
    const Character character = character_at(piece, at);
    const bool is_space = character.is_in(kWhiteSpace);
    if (is_space && begin == piece.size()) begin = at;
    if (!is_space) begin = piece.size();
    at += character.length_bytes;
  }
  return {begin, piece.size()};
}

struct KnownSplit {
  std::string_view expression;
  SplitFinder finder;
  bool is_partition = false;  ///< nothing lies between two matches
};

// Released files spell CR and LF as escapes of the expression or of JSON. Sources: tokenizer.json and
// tekken.json of the families in docs/tokenizers.md.
constexpr std::array kKnownSplits = {
    KnownSplit{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
               R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
               find_from<match_words<3, false>>, true},
    KnownSplit{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
               R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
               find_from<match_words<1, false>>, true},
    KnownSplit{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+)"
               R"([\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
               find_from<match_words<1, true>>, true},
    KnownSplit{
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
        R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)"
        R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
        find_from<match_cased<3, true>>, true},
    KnownSplit{R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
               R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N})"
               R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
               find_from<match_cased<1, false>>, true},
    KnownSplit{R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
               R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
               R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
               R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3})"
               R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
               find_from<match_kimi>, true},
    KnownSplit{R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
               find_from<match_gpt2>, true},
    // White space that this form does not match lies between two matches, one character long, and so is a
    // piece all the same.
    KnownSplit{R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))",
               find_from<match_gpt2>},
    KnownSplit{R"(\p{N}{1,3})", find_from<match_digits<3>>},
    KnownSplit{R"(\p{N}+)", find_from<match_digits<0>>},
    KnownSplit{R"(\p{N})", find_from<match_digits<1>>},
    KnownSplit{"[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+", find_from<match_han_and_kana>},
    KnownSplit{R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
               R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
               find_from<match_deepseek_words>},
    KnownSplit{R"([\r\n])", find_from<match_newline>},
    KnownSplit{R"(\s?\p{L}+)", find_from<match_after_space<kLetters>>},
    KnownSplit{R"(\s?\p{P}+)", find_from<match_after_space<classes(punctuation)>>},
    KnownSplit{format::kSpelledLettersExpression, find_from<match_spelled<kSpelledLetters>>},
    KnownSplit{format::kSpelledSignsExpression, find_from<match_spelled<kSpelledSigns>>},
    KnownSplit{R"(\s+$)", find_trailing_space},
    KnownSplit{"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+", find_from<match_non_latin>},
};

}  // namespace

std::string spelled_in_one_line(std::string_view expression) {
  std::string text;
  for (const char byte : expression) {
    if (byte == '\r') {
      text += "\\r";
    } else if (byte == '\n') {
      text += "\\n";
    } else {
      text += byte;
    }
  }
  return text;
}

SplitFinder find_split(std::string_view expression) {
  const std::string spelled = spelled_in_one_line(expression);
  for (const KnownSplit& known : kKnownSplits)
    if (known.expression == spelled) return known.finder;
  return nullptr;
}

bool is_partition(std::string_view expression) {
  const std::string spelled = spelled_in_one_line(expression);
  return std::ranges::any_of(kKnownSplits, [&](const KnownSplit& known) {
    return known.expression == spelled && known.is_partition;
  });
}

std::vector<std::string_view> known_splits() {
  std::vector<std::string_view> expressions;
  for (const KnownSplit& known : kKnownSplits) expressions.push_back(known.expression);
  return expressions;
}

SplitFinder byte_level_split() { return find_from<match_gpt2>; }

SplitFinder digits_split(bool individual_digits) {
  return individual_digits ? find_from<match_digits<1>> : find_from<match_digits<0>>;
}

}  // namespace sluice::text
