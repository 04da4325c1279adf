#include "tests/text/slow_regex.h"

#include <utf8proc.h>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>

#include "base/text.h"
#include "text/spelled_sets.h"

namespace sluice::tests {
namespace {

using Text = std::u32string;
using Next = std::function<bool(std::size_t)>;

Text decode(std::string_view text) {
  Text out;
  while (!text.empty()) {
    const auto length = static_cast<std::size_t>(base::utf8_length(text));
    out += base::decode_utf8(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}

std::string encode(const Text& text) {
  std::string out;
  for (const char32_t code_point : text) {
    utf8proc_uint8_t bytes[4];
    const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
  }
  return out;
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

char32_t fold(char32_t c) {
  if (c == 0x17F) return 's';
  return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/// One thing that is repeated: a set of characters, a group, or the look ahead.
struct Atom;
struct Item {
  std::shared_ptr<Atom> atom;
  std::size_t least = 1;
  std::size_t most = 1;
};
using Sequence = std::vector<Item>;
struct Atom {
  std::function<bool(char32_t)> contains;  // a character
  std::vector<Sequence> alternatives;      // a group
  bool is_look_ahead = false;              // (?!\S)
  bool is_end = false;                     // $, the end of the text
};

class Parser {
 public:
  explicit Parser(Text source) : source_(std::move(source)) {}

  std::vector<Sequence> parse() {
    auto alternatives = parse_alternatives();
    if (at_ != source_.size()) throw std::logic_error("unbalanced expression");
    return alternatives;
  }

 private:
  [[nodiscard]] bool take(std::u32string_view text) {
    if (source_.compare(at_, text.size(), text) != 0) return false;
    at_ += text.size();
    return true;
  }
  char32_t next() { return source_.at(at_++); }

  std::vector<Sequence> parse_alternatives() {
    std::vector<Sequence> alternatives(1);
    while (at_ < source_.size() && source_[at_] != ')') {
      if (take(U"|")) {
        alternatives.emplace_back();
      } else {
        alternatives.back().push_back(parse_item());
      }
    }
    return alternatives;
  }

  Item parse_item() {
    Item item{std::make_shared<Atom>(parse_atom())};
    if (take(U"?")) {
      item.least = 0;
    } else if (take(U"*")) {
      item.least = 0;
      item.most = std::string::npos;
    } else if (take(U"+")) {
      item.most = std::string::npos;
    } else if (take(U"{1,3}")) {
      item.most = 3;
    }
    return item;
  }

  Atom parse_atom() {
    Atom atom;
    if (take(U"(?!\\S)")) {
      atom.is_look_ahead = true;
    } else if (take(U"$")) {
      atom.is_end = true;
    } else if (take(U"(")) {
      const bool outer = ignore_case_;
      if (take(U"?i:")) {
        ignore_case_ = true;
      } else if (!take(U"?:")) {
        throw std::logic_error("unknown group");
      }
      atom.alternatives = parse_alternatives();
      if (!take(U")")) throw std::logic_error("unbalanced group");
      ignore_case_ = outer;
    } else if (take(U"[")) {
      atom.contains = parse_class();
    } else {
      atom.contains = parse_member();
    }
    return atom;
  }

  std::function<bool(char32_t)> parse_class() {
    const bool negated = take(U"^");
    std::vector<std::function<bool(char32_t)>> members;
    std::function<bool(char32_t)> others = [](char32_t) { return true; };
    while (!take(U"]")) {
      // "SET&&[...]": what the set and the class behind it have in common.
      if (take(U"&&[")) {
        others = parse_class();
        continue;
      }
      // "a-z", but not the escaped "\-" nor a class before the bar.
      if (source_[at_] != '\\' && source_.at(at_ + 1) == '-' && source_.at(at_ + 2) != ']') {
        const char32_t low = next();
        ++at_;
        const char32_t high = next();
        members.emplace_back([=](char32_t c) { return c >= low && c <= high; });
      } else {
        members.push_back(parse_member());
      }
    }
    return [=](char32_t c) {
      for (const auto& member : members)
        if (member(c)) return !negated && others(c);
      return negated;
    };
  }

  std::function<bool(char32_t)> parse_member() {
    char32_t literal = next();
    if (literal == '\\') {
      const char32_t escape = next();
      switch (escape) {
        case 's': return is_space;
        case 'S': return [](char32_t c) { return !is_space(c); };
        case 'p': return parse_property();
        case 'r': literal = '\r'; break;
        case 'n': literal = '\n'; break;
        default: literal = escape;
      }
    }
    if (ignore_case_) return [=](char32_t c) { return fold(c) == fold(literal); };
    return [=](char32_t c) { return c == literal; };
  }

  std::function<bool(char32_t)> parse_property() {
    if (!take(U"{")) throw std::logic_error("unknown property");
    std::string name;
    for (char32_t c = next(); c != '}'; c = next()) name += static_cast<char>(c);
    if (name == "Han") return [](char32_t c) { return text::is_in(c, text::kHan); };
    return [=](char32_t c) {
      return std::string_view(utf8proc_category_string(static_cast<utf8proc_int32_t>(c))).starts_with(name);
    };
  }

  Text source_;
  std::size_t at_ = 0;
  bool ignore_case_ = false;
};

class Matcher {
 public:
  explicit Matcher(const Text& text) : text_(text) {}

  std::optional<std::size_t> match(const std::vector<Sequence>& alternatives, std::size_t at) {
    std::optional<std::size_t> end;
    static_cast<void>(any_of(alternatives, at, [&](std::size_t found) {
      end = found;
      return true;
    }));
    return end;
  }

 private:
  bool any_of(const std::vector<Sequence>& alternatives, std::size_t at, const Next& next) {
    for (const Sequence& sequence : alternatives)
      if (items(sequence, 0, at, next)) return true;
    return false;
  }

  bool items(const Sequence& sequence, std::size_t index, std::size_t at, const Next& next) {
    if (index == sequence.size()) return next(at);
    return repeat(sequence[index], 0, at,
                  [&](std::size_t end) { return items(sequence, index + 1, end, next); });
  }

  bool repeat(const Item& item, std::size_t count, std::size_t at, const Next& next) {
    if (count < item.most &&
        once(*item.atom, at, [&](std::size_t end) { return repeat(item, count + 1, end, next); }))
      return true;
    return count >= item.least && next(at);
  }

  bool once(const Atom& atom, std::size_t at, const Next& next) {
    if (atom.is_look_ahead) return (at == text_.size() || is_space(text_[at])) && next(at);
    if (atom.is_end) return at == text_.size() && next(at);
    if (!atom.contains) return any_of(atom.alternatives, at, next);
    return at < text_.size() && atom.contains(text_[at]) && next(at + 1);
  }

  const Text& text_;
};

}  // namespace

std::vector<std::string> slow_split(std::string_view expression, std::string_view text) {
  const auto alternatives = Parser(decode(expression)).parse();
  const Text characters = decode(text);
  Matcher matcher(characters);
  std::vector<std::string> pieces;
  std::size_t done = 0;
  for (std::size_t at = 0; at < characters.size();) {
    const auto end = matcher.match(alternatives, at);
    if (!end || *end == at) {
      ++at;
      continue;
    }
    if (at > done) pieces.push_back(encode(characters.substr(done, at - done)));
    pieces.push_back(encode(characters.substr(at, *end - at)));
    at = done = *end;
  }
  if (done < characters.size()) pieces.push_back(encode(characters.substr(done)));
  return pieces;
}

}  // namespace sluice::tests
