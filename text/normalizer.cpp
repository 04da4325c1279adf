// Normal form C goes through utf8proc in small parts, for three reasons: most text is in that form already
// and is copied; the ranges of a text keep their places; and utf8proc sorts marks in quadratic time, so that
// they are sorted here before it composes them. A part begins with a character that composes with none before
// it.

#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/invariant.h"
#include "text/characters.h"

namespace sluice::text {
namespace {

/// Builds a text from parts of a source, and finds where the ends of the source's ranges come to lie.
class RangedWriter {
 public:
  explicit RangedWriter(const RangedText& source) : source_(source) {}

  /// Appends the source up to `end` as it is.
  void copy_until(std::size_t end) {
    for (; end_at() <= end; ++ends_) place(out_.text.size() + end_at() - done_);
    out_.text += std::string_view(source_.text).substr(done_, end - done_);
    done_ = end;
  }

  /// Appends `text` for the source up to `end`. `place_of(i)` is where byte i of that source comes to lie, if
  /// there is such a place.
  template <typename PlaceOf>
  void replace_until(std::size_t end, std::string_view text, const PlaceOf& place_of) {
    for (; end_at() < end; ++ends_) {
      const std::size_t within = end_at() - done_;
      const bool opens = ends_ % 2 == 0;
      const std::optional<std::size_t> found = within == 0 ? std::optional<std::size_t>(0) : place_of(within);
      place(out_.text.size() + found.value_or(opens ? text.size() : 0));
    }
    out_.text += text;
    done_ = end;
  }
  void replace_until(std::size_t end, std::string_view text) {
    replace_until(end, text, [](std::size_t) { return std::optional<std::size_t>(); });
  }

  [[nodiscard]] RangedText take() {
    copy_until(source_.text.size());
    // A range within one sequence that was replaced may have its end before its begin.
    std::erase_if(out_.ranges, [](const TextRange& range) { return range.end <= range.begin; });
    return std::move(out_);
  }

 private:
  /// The next end of a range in the source: even numbers are begins.
  [[nodiscard]] std::size_t end_at() const {
    if (ends_ / 2 == source_.ranges.size()) return std::string::npos;
    const TextRange& range = source_.ranges[ends_ / 2];
    return ends_ % 2 == 0 ? range.begin : range.end;
  }
  void place(std::size_t at) {
    if (ends_ % 2 == 0) {
      out_.ranges.push_back({at, at});
    } else {
      out_.ranges.back().end = at;
    }
  }

  const RangedText& source_;
  RangedText out_;
  std::size_t done_ = 0;
  std::size_t ends_ = 0;
};

/// True for many characters that normal form C leaves as they are and that compose with none before them;
/// they may still compose with one behind them. (False for some such characters, too.)
bool stands_alone(char32_t code_point) {
  using Block = std::pair<char32_t, char32_t>;
  constexpr std::array kBlocks = {Block{0x0400, 0x0482}, Block{0x048A, 0x0590},  Block{0x2010, 0x205F},
                                  Block{0x3001, 0x3029}, Block{0x3041, 0x3096},  Block{0x30A1, 0x30FF},
                                  Block{0x3400, 0x4DBF}, Block{0x4E00, 0x9FFF},  Block{0xAC00, 0xD7A3},
                                  Block{0xFF01, 0xFFFD}, Block{0x1F300, 0x1FAFF}};
  if (code_point < 0x300) return true;
  return std::ranges::any_of(
      kBlocks, [&](const Block& block) { return code_point >= block.first && code_point <= block.second; });
}

int combining_class(char32_t code_point) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(code_point))->combining_class;
}

/// Appends the canonical decomposition of UTF-8 text, marks not yet in order.
void decompose(std::string_view text, std::vector<utf8proc_int32_t>& out) {
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    at += character.length_bytes;
    std::array<utf8proc_int32_t, 8> parts{};
    int boundary_class = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character.code_point), parts.data(),
                                parts.size(), UTF8PROC_DECOMPOSE, &boundary_class);
    INVARIANT(count >= 0 && static_cast<std::size_t>(count) <= parts.size());
    out.insert(out.end(), parts.begin(), parts.begin() + count);
  }
}

/// Marks between two characters of combining class 0 in the order of their classes (Unicode, D109).
void sort_marks(std::vector<utf8proc_int32_t>& code_points) {
  const auto class_at = [](utf8proc_int32_t code_point) {
    return combining_class(static_cast<char32_t>(code_point));
  };
  for (auto begin = code_points.begin(); begin != code_points.end();) {
    begin =
        std::find_if(begin, code_points.end(), [&](auto code_point) { return class_at(code_point) != 0; });
    const auto end =
        std::find_if(begin, code_points.end(), [&](auto code_point) { return class_at(code_point) == 0; });
    std::stable_sort(begin, end, [&](auto a, auto b) { return class_at(a) < class_at(b); });
    begin = end;
  }
}

std::string compose(std::string_view text) {
  std::vector<utf8proc_int32_t> code_points;
  decompose(text, code_points);
  sort_marks(code_points);
  const auto count =
      utf8proc_normalize_utf32(code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  INVARIANT(count >= 0);
  std::string out;
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    std::array<utf8proc_uint8_t, 4> bytes{};
    const auto length = utf8proc_encode_char(code_points[static_cast<std::size_t>(i)], bytes.data());
    out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(length));
  }
  return out;
}

RangedText replace_all(const RangedText& source, const std::string& from, std::string_view to) {
  RangedWriter writer(source);
  for (std::size_t at = 0; (at = source.text.find(from, at)) != std::string::npos;) {
    writer.copy_until(at);
    at += from.size();
    writer.replace_until(at, to);
  }
  return writer.take();
}

void prepend(RangedText& text, std::string_view front) {
  if (text.text.empty()) return;
  text.text.insert(0, front);
  for (TextRange& range : text.ranges) range = {range.begin + front.size(), range.end + front.size()};
}

}  // namespace

RangedText normalize_nfc(RangedText source) {
  const std::string_view text = source.text;
  // A byte of no UTF-8 has no neighbours to compose with: it ends a part, and none begins with it.
  const auto is_stray = [](const Character& character) {
    return character.length_bytes == 1 && character.code_point >= 0x80;
  };
  RangedWriter writer(source);
  std::size_t part = 0;  // where the character began after which the next part would begin
  for (std::size_t at = 0; at < text.size();) {
    const Character first = character_at(text, at);
    if (is_stray(first) || stands_alone(first.code_point)) {
      at += first.length_bytes;
      part = is_stray(first) ? at : at - first.length_bytes;
      continue;
    }
    std::size_t end = at;
    while (end < text.size()) {
      const Character next = character_at(text, end);
      if (is_stray(next) || stands_alone(next.code_point)) break;
      end += next.length_bytes;
    }
    const std::string_view old = text.substr(part, end - part);
    const std::string composed = compose(old);
    writer.copy_until(part);
    if (composed == old) {
      writer.copy_until(end);
    } else {
      writer.replace_until(end, composed, [&](std::size_t within) -> std::optional<std::size_t> {
        const std::string head = compose(old.substr(0, within));
        // The end of a range inside a character would make another text; it has no place.
        if (head + compose(old.substr(within)) == composed) return head.size();
        return std::nullopt;
      });
    }
    part = end;
    at = end;
  }
  return writer.take();
}

RangedText Normalizer::apply(RangedText source) const {
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::nfc: source = normalize_nfc(std::move(source)); break;
      case Kind::replace: source = replace_all(source, step.from, step.to); break;
      case Kind::prepend: prepend(source, step.to); break;
    }
  }
  return source;
}

}  // namespace sluice::text
