// The filter tojson, which transformers replaces by json.dumps(value, ensure_ascii=False, ..): it escapes no
// HTML and keeps the order of keys.

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "text/values/machine.h"
#include "text/values/python_text.h"

namespace sluice::text::jinja {
namespace {

class JsonText {
 public:
  JsonText(Machine& machine, const Bound& bound)
      : machine_(machine),
        out_(machine.budget),
        ascii_(bound.flag(0, false)),
        sorted_(bound.flag(3, false)),
        indented_(bound.given(1)) {
    if (indented_) {
      item_separator_ = ",";
      indent_ = bound.at(1).is_string() ? bound.text(1).text : spaces(bound.integer(1, 0));
    }
    if (bound.given(2)) {
      const Values separators = elements(machine.budget, bound.at(2));
      if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string())
        fail("the filter tojson: separators are two texts");
      item_separator_ = separators[0].text();
      key_separator_ = separators[1].text();
    }
  }

  void write(const Value& value, int depth = 0) {
    machine_.budget.step();
    if (value.is_string()) {
      write_text(value.marked());
    } else if (value.mapping() != nullptr) {
      write_mapping(*value.mapping(), depth);
    } else if (value.sequence() != nullptr && (value.sequence()->kind == SequenceKind::list ||
                                               value.sequence()->kind == SequenceKind::tuple)) {
      write_list(value.sequence()->items, depth);
    } else {
      write(scalar(value));
    }
  }

  MarkedText take() { return out_.take(); }

 private:
  static std::string spaces(std::int64_t count) {
    constexpr std::int64_t kIndentMax = 1000;
    if (count > kIndentMax) fail("the filter tojson: an indent of at most 1000 is supported");
    return std::string(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)), ' ');
  }

  void write(std::string_view text) { out_.append(text, false); }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.is_true() ? "true" : "false";
    if (value.is_int()) return std::to_string(value.integer());
    if (!value.is_float())
      fail("Object of type " + std::string(value.type_name()) + " is not JSON serializable");
    const double number = value.number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return float_text(number);
  }

  void begin_line(int depth) {
    if (!indented_) return;
    write("\n");
    for (int i = 0; i < depth; ++i) write(indent_);
  }

  void write_list(const Values& items, int depth) {
    write("[");
    bool first = true;
    for (const Value& item : items) {
      if (!first) write(item_separator_);
      first = false;
      begin_line(depth + 1);
      write(item, depth + 1);
    }
    if (!items.empty()) begin_line(depth);
    write("]");
  }

  void write_mapping(const Mapping& mapping, int depth) {
    auto members = mapping.members;
    machine_.budget.make(members.size() * sizeof(members[0]));
    if (sorted_)
      std::ranges::stable_sort(members, [&](const auto& left, const auto& right) {
        return is_lt(compare(machine_.budget, left.first, right.first, "<"));
      });
    write("{");
    bool first = true;
    for (const auto& [key, value] : members) {
      if (!first) write(item_separator_);
      first = false;
      begin_line(depth + 1);
      if (key.is_string()) {
        write_text(key.marked());
      } else if (key.is_none() || key.is_number()) {
        write("\"" + scalar(key) + "\"");
      } else {
        fail("keys must be str, int, float, bool or None, not " + std::string(key.type_name()));
      }
      write(key_separator_);
      write(value, depth + 1);
    }
    if (!members.empty()) begin_line(depth);
    write("}");
  }

  void write_text(const MarkedText& text) {
    write("\"");
    const std::string_view whole = text.text;
    std::size_t plain = 0;  // bytes before it are written
    for (std::size_t at = 0; at < whole.size();) {
      const auto bytes = static_cast<std::size_t>(base::utf8_length(whole.substr(at)));
      const std::string escape = escaped(whole.substr(at, bytes));
      if (!escape.empty()) {
        out_.append(text, plain, at);
        write(escape);
        plain = at + bytes;
      }
      at += bytes;
    }
    out_.append(text, plain, whole.size());
    write("\"");
  }

  static std::string hex_escape(char32_t unit) {
    std::string text = "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) text += "0123456789abcdef"[(unit >> shift) & 15];
    return text;
  }

  // Empty for a character that stands for itself.
  [[nodiscard]] std::string escaped(std::string_view character) const {
    switch (character[0]) {
      case '"': return "\\\"";
      case '\\': return "\\\\";
      case '\n': return "\\n";
      case '\r': return "\\r";
      case '\t': return "\\t";
      case '\f': return "\\f";
      case '\b': return "\\b";
      default: break;
    }
    const char32_t code = base::decode_utf8(character);
    if (code < 0x20) return hex_escape(code);
    if (!ascii_ || code < 0x7F) return {};
    if (code < 0x10000) return hex_escape(code);
    return hex_escape(0xD800 + ((code - 0x10000) >> 10)) + hex_escape(0xDC00 + ((code - 0x10000) & 0x3FF));
  }

  Machine& machine_;
  MarkedBuilder out_;
  bool ascii_;
  bool sorted_;
  bool indented_;
  std::string indent_;
  std::string item_separator_ = ", ";
  std::string key_separator_ = ": ";
};

}  // namespace

Value to_json(Machine& machine, const Value& value, const Arguments& arguments) {
  const Bound bound(arguments, "the filter tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonText text(machine, bound);
  text.write(value);
  return machine.text(text.take());
}

}  // namespace sluice::text::jinja
