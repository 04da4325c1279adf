// str() and repr() of values, as Python writes them.

#include <array>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "base/unicode.h"
#include "text/values/machine.h"
#include "text/values/python_text.h"

namespace sluice::text::jinja {
namespace {

void append_hex(std::string& text, char32_t value, int digits) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
    text += "0123456789abcdef"[(value >> shift) & 15];
}

class Writer {
 public:
  explicit Writer(Machine& machine) : machine_(machine), out_(machine.budget) {}

  void write(const Value& value) {
    machine_.budget.step();
    if (value.is_string()) {
      if (value.is_safe()) fail("text from the filter 'safe' within a list cannot be printed");
      write_quoted(value.marked());
    } else if (const Sequence* sequence = value.sequence()) {
      write_sequence(*sequence);
    } else if (const Mapping* mapping = value.mapping()) {
      write_mapping(*mapping);
    } else if (value.is_undefined()) {
      write("Undefined");
    } else {
      write(scalar(value));
    }
  }

  MarkedText take() { return out_.take(); }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "None";
    if (value.is_bool()) return value.is_true() ? "True" : "False";
    if (value.is_int()) return std::to_string(value.integer());
    if (value.is_float()) return float_text(value.number());
    fail("a value of the type " + std::string(value.type_name()) + " cannot be printed");
  }

 private:
  void write(std::string_view text) { out_.append(text, false); }

  void write_items(const Values& items) {
    bool first = true;
    for (const Value& item : items) {
      if (!first) write(", ");
      first = false;
      write(item);
    }
  }

  void write_sequence(const Sequence& sequence) {
    switch (sequence.kind) {
      case SequenceKind::generator: fail("a value of the type generator cannot be printed");
      case SequenceKind::range: {
        write("range(" + std::to_string(sequence.range_begin) + ", " + std::to_string(sequence.range_end));
        if (sequence.range_step != 1) write(", " + std::to_string(sequence.range_step));
        return write(")");
      }
      case SequenceKind::tuple:
        write("(");
        write_items(sequence.items);
        return write(sequence.items.size() == 1 ? ",)" : ")");
      case SequenceKind::list: break;
      case SequenceKind::keys: write("dict_keys("); break;
      case SequenceKind::values: write("dict_values("); break;
      case SequenceKind::items: write("dict_items("); break;
    }
    write("[");
    write_items(sequence.items);
    write(sequence.kind == SequenceKind::list ? "]" : "])");
  }

  void write_mapping(const Mapping& mapping) {
    write("{");
    bool first = true;
    for (const auto& [key, value] : mapping.members) {
      if (!first) write(", ");
      first = false;
      write(key);
      write(": ");
      write(value);
    }
    write("}");
  }

  void write_quoted(const MarkedText& text) {
    const bool single = text.text.find('\'') == std::string::npos || text.text.find('"') != std::string::npos;
    const char quote = single ? '\'' : '"';
    write(std::string_view(&quote, 1));
    std::size_t plain = 0;  // bytes before it are written
    for (std::size_t at = 0; at < text.text.size();) {
      const auto bytes = static_cast<std::size_t>(base::utf8_length(std::string_view(text.text).substr(at)));
      const std::string escape = escaped(std::string_view(text.text).substr(at, bytes), quote);
      if (!escape.empty()) {
        out_.append(text, plain, at);
        write(escape);
        plain = at + bytes;
      }
      at += bytes;
    }
    out_.append(text, plain, text.text.size());
    write(std::string_view(&quote, 1));
  }

  // Empty for a character that stands for itself.
  static std::string escaped(std::string_view character, char quote) {
    const char32_t code = base::decode_utf8(character);
    if (code >= 0x20 && code < 0x7F && code != '\\' && character[0] != quote) return {};
    if (code == '\\' || character[0] == quote) return std::string("\\") + character[0];
    if (code == '\n') return "\\n";
    if (code == '\r') return "\\r";
    if (code == '\t') return "\\t";
    if (base::is_printable(code)) return {};
    std::string text = code <= 0xFF ? "\\x" : code <= 0xFFFF ? "\\u" : "\\U";
    append_hex(text, code, code <= 0xFF ? 2 : code <= 0xFFFF ? 4 : 8);
    return text;
  }

  Machine& machine_;
  MarkedBuilder out_;
};

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer{};
  const auto scientific =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view shortest(buffer.data(), scientific.ptr);
  const std::size_t e = shortest.find('e');
  const int exponent = std::atoi(std::string(shortest.substr(e + 1)).c_str());
  // Python's float_repr_style: scientific below 1e-4 and from 1e16 on.
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  const auto fixed =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string text(buffer.data(), fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

MarkedText to_text(Machine& machine, const Value& value) {
  if (value.is_string()) return value.marked();
  if (value.is_undefined()) return {};
  Writer writer(machine);
  writer.write(value);
  return writer.take();
}

}  // namespace sluice::text::jinja
