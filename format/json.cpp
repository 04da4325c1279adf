// Json values, their parser and their writer.
//
// nlohmann's SAX parser drives Builder, which keeps a stack of open arrays and objects, refuses duplicate
// keys and more than kJsonDepthMax levels, and so bounds the recursion of everything that walks a value
// later. nlohmann's own document type would keep the last of two equal keys without a word; other programs
// keep the first, so the same manifest could mean two things.
//
// Objects keep the order of their keys, because directories and manifests are compared byte for byte. Values
// are plain data without shared state; several threads may read one value at the same time.

#include "format/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"

namespace sluice::format {
namespace {

// Messages quote this much of a foreign text: enough to recognise it, and short enough for one line.
constexpr std::size_t kQuotedBytesMax = 60;
constexpr std::size_t kParserMessageBytesMax = 240;

// Control characters of a foreign text must not reach a terminal.
std::string quote(std::string_view text) {
  std::string shown = base::to_printable(text.substr(0, kQuotedBytesMax));
  if (text.size() > kQuotedBytesMax) shown += "...";
  return "'" + shown + "'";
}

std::string describe(const Json& value) {
  if (value.is_string()) return "the string " + quote(value.as_string(""));
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return value.dump();
}

/// Every as_*() and at() of Json ends here or in throw_malformed(): callers pass the place of the value as
/// `subject`, and never have to check kinds themselves.
[[noreturn]] void throw_kind(std::string_view subject, std::string_view expected, const Json& found) {
  base::throw_malformed(subject, "expected " + std::string(expected) + ", found " + describe(found));
}

/// Builds a Json from the parser's events. A true result asks the parser to continue; refuse() leaves it by
/// an exception.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(std::string_view subject, std::uint64_t memory_bytes_max)
      : subject_(subject), memory_bytes_max_(memory_bytes_max) {}

  bool null() override { return place(Json()); }
  bool boolean(bool value) override { return place(Json(value)); }
  bool number_integer(number_integer_t value) override { return place(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return place(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return place(Json(value)); }
  bool string(string_t& value) override {
    charge(value.size());
    return place(Json(std::move(value)));
  }
  bool binary(binary_t&) override { return false; }  // never comes from text

  bool start_object(std::size_t) override { return open(); }
  bool start_array(std::size_t) override { return open(); }

  bool end_object() override {
    if (is_too_large()) return true;
    Json::Object members = std::move(open_.back().members);
    open_.pop_back();
    return place(Json(std::move(members)));
  }

  bool end_array() override {
    if (is_too_large()) return true;
    Json::Array items = std::move(open_.back().items);
    open_.pop_back();
    return place(Json(std::move(items)));
  }

  bool key(string_t& value) override {
    // The key stands in the member and, while its object is open, in the set of keys.
    charge(2 * value.size() + sizeof(Json::Member) + kSetNodeBytes);
    if (is_too_large()) return true;
    Container& object = open_.back();
    if (!object.keys.insert(value).second) refuse("key " + quote(value) + " occurs twice in one object");
    object.next_key = std::move(value);
    object.is_object = true;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..."
    std::string_view cause = error.what();
    // The user gets the position and the cause, without the library's name and number for it.
    for (const std::string_view introduction : {"] ", "parse error at "}) {
      const std::size_t found = cause.find(introduction);
      if (found != std::string_view::npos) cause.remove_prefix(found + introduction.size());
    }
    refuse(base::to_printable(cause.substr(0, kParserMessageBytesMax)));
  }

  [[nodiscard]] Json take() {
    if (is_too_large())
      throw base::Error(base::ErrorKind::usage,
                        std::string(subject_) + ": its JSON takes " + base::to_human_bytes(memory_bytes_) +
                            " of memory, more than the " + base::to_human_bytes(memory_bytes_max_) +
                            " that may be used for it");
    return std::move(root_);
  }

 private:
  struct Container {
    bool is_object = false;  ///< set by the first key; an empty container gets its type from its end event
    Json::Object members;
    Json::Array items;
    std::string next_key;
    // Members lie in a vector, where a search for each new key would be quadratic in hostile input.
    std::unordered_set<std::string> keys;
  };

  [[noreturn]] void refuse(const std::string& cause) const {
    base::throw_malformed(subject_, "is not valid JSON: " + cause);
  }

  /// Counts before memory is taken. Once the limit is reached, nothing is kept, and the rest is only counted.
  void charge(std::uint64_t bytes) {
    memory_bytes_ += bytes;
    if (!is_too_large() || released_) return;
    open_ = {};
    released_ = true;
  }
  [[nodiscard]] bool is_too_large() const { return memory_bytes_ > memory_bytes_max_; }

  bool open() {
    charge(sizeof(Container));
    if (is_too_large()) return true;
    if (open_.size() >= static_cast<std::size_t>(kJsonDepthMax)) {
      refuse("more than " + std::to_string(kJsonDepthMax) + " levels of arrays and objects");
    }
    open_.emplace_back();
    return true;
  }

  // Adds a finished value to the innermost open container; without one it is the root.
  bool place(Json value) {
    charge(2 * sizeof(Json));  // a vector that grows has up to twice the places
    if (is_too_large()) return true;
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Container& parent = open_.back(); parent.is_object) {
      parent.members.emplace_back(std::move(parent.next_key), std::move(value));
    } else {
      parent.items.push_back(std::move(value));
    }
    return true;
  }

  static constexpr std::uint64_t kSetNodeBytes = 64;

  std::string_view subject_;
  std::uint64_t memory_bytes_max_;
  std::uint64_t memory_bytes_ = 0;
  bool released_ = false;
  Json root_;
  std::vector<Container> open_;
};

// The writer is our own, because containers and manifests are compared byte for byte and nlohmann's dump()
// writes some values otherwise: 1e6 as "1000000.0", DEL unescaped, one U+FFFD for a whole malformed sequence.

// Escapes what JSON demands, and DEL, which a terminal would swallow. Each byte that is not part of a UTF-8
// character becomes one U+FFFD, so the result is valid whatever the text is.
void write_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const int length = base::utf8_length(text);
    if (length <= 0) {
      out += "\uFFFD";
      text.remove_prefix(1);
      continue;
    }
    const char first = text.front();
    switch (first) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (length == 1 && (static_cast<unsigned char>(first) < 0x20 || first == 0x7F)) {
          constexpr std::string_view kHex = "0123456789abcdef";
          out += "\\u00";
          out += kHex[static_cast<unsigned char>(first) >> 4];
          out += kHex[first & 15];
        } else {
          out += text.substr(0, static_cast<std::size_t>(length));
        }
    }
    text.remove_prefix(static_cast<std::size_t>(length));
  }
  out += '"';
}

// The shortest text that reads back as the same double, and as a double: 1.0 stays "1.0".
void write_double(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  std::array<char, 32> text{};
  const auto result = std::to_chars(text.data(), text.data() + text.size(), value);
  const std::string_view digits(text.data(), static_cast<std::size_t>(result.ptr - text.data()));
  out += digits;
  if (digits.find_first_of(".e") == std::string_view::npos) out += ".0";
}

// The indentation of compact text, which has no line breaks at all.
constexpr int kOnOneLine = -1;

void new_line(std::string& out, int indent) {
  if (indent == kOnOneLine) return;
  out += '\n';
  out.append(static_cast<std::size_t>(indent), ' ');
}

int deeper(int indent) { return indent == kOnOneLine ? kOnOneLine : indent + 2; }

}  // namespace

/// Writes any value; a friend of Json because it looks at the alternative itself.
struct JsonWriter {
  std::string& out;

  void write(const Json& json, int indent) {
    std::visit([&](const auto& value) { write_value(value, indent); }, json.value_);
  }

  void write_value(std::monostate, int) { out += "null"; }
  void write_value(bool value, int) { out += value ? "true" : "false"; }
  void write_value(std::int64_t value, int) { out += std::to_string(value); }
  void write_value(std::uint64_t value, int) { out += std::to_string(value); }
  void write_value(double value, int) { write_double(out, value); }
  void write_value(const std::string& value, int) { write_string(out, value); }

  void write_value(const Json::Array& items, int indent) {
    if (items.empty()) {
      out += "[]";
      return;
    }
    char separator = '[';
    for (const Json& item : items) {
      out += std::exchange(separator, ',');
      new_line(out, deeper(indent));
      write(item, deeper(indent));
    }
    new_line(out, indent);
    out += ']';
  }

  void write_value(const Json::Object& members, int indent) {
    if (members.empty()) {
      out += "{}";
      return;
    }
    char separator = '{';
    for (const auto& [key, value] : members) {
      out += std::exchange(separator, ',');
      new_line(out, deeper(indent));
      write_string(out, key);
      out += indent == kOnOneLine ? ":" : ": ";
      write(value, deeper(indent));
    }
    new_line(out, indent);
    out += '}';
  }
};

Json::Json(const Json& other) = default;
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;

Json Json::object(std::initializer_list<Member> members) {
  Json json{Object{}};
  for (const auto& [key, value] : members) json.set(key, value);
  return json;
}

Json Json::array(std::initializer_list<Json> items) { return Json(Array(items)); }

bool Json::is_number() const {
  return std::holds_alternative<std::int64_t>(value_) || std::holds_alternative<std::uint64_t>(value_) ||
         std::holds_alternative<double>(value_);
}

bool Json::is_integer() const {
  return std::holds_alternative<std::int64_t>(value_) || std::holds_alternative<std::uint64_t>(value_);
}

bool Json::as_bool(std::string_view subject) const {
  if (const bool* value = std::get_if<bool>(&value_)) return *value;
  throw_kind(subject, "true or false", *this);
}

std::uint64_t Json::as_uint(std::string_view subject) const {
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return *value;
  throw_kind(subject, "a whole number from 0 to 2^64 - 1", *this);
}

std::int64_t Json::as_int(std::string_view subject) const {
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return *value;
  const auto* value = std::get_if<std::uint64_t>(&value_);
  if (value != nullptr && std::in_range<std::int64_t>(*value)) return static_cast<std::int64_t>(*value);
  throw_kind(subject, "a whole number from -2^63 to 2^63 - 1", *this);
}

double Json::as_double(std::string_view subject) const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  // Whole numbers that are not negative are always unsigned here, whether they were parsed or constructed.
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  throw_kind(subject, "a number", *this);
}

const std::string& Json::as_string(std::string_view subject) const {
  if (const auto* value = std::get_if<std::string>(&value_)) return *value;
  throw_kind(subject, "a string", *this);
}

const Json::Array& Json::as_array(std::string_view subject) const {
  if (const auto* value = std::get_if<Array>(&value_)) return *value;
  throw_kind(subject, "an array", *this);
}

const Json::Object& Json::as_object(std::string_view subject) const {
  if (const auto* value = std::get_if<Object>(&value_)) return *value;
  throw_kind(subject, "an object", *this);
}

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<Object>(&value_);
  if (members == nullptr) return nullptr;
  const auto found =
      std::ranges::find(*members, key, [](const Member& member) { return std::string_view(member.first); });
  return found == members->end() ? nullptr : &found->second;
}

const Json& Json::at(std::string_view key, std::string_view subject) const {
  static_cast<void>(as_object(subject));
  if (const Json* value = find(key)) return *value;
  base::throw_malformed(subject, "key " + quote(key) + " is missing");
}

// Replaces an existing member in its place, so that its position, and with it the text, stays the same.
Json& Json::set(std::string key, Json value) {
  if (is_null()) value_ = Object{};
  // A caller that sets a member of a number is a bug, not bad input.
  INVARIANT(is_object());
  auto& members = std::get<Object>(value_);
  const auto found = std::ranges::find(members, key, &Member::first);
  if (found != members.end()) {
    found->second = std::move(value);
  } else {
    members.emplace_back(std::move(key), std::move(value));
  }
  return *this;
}

Json& Json::push_back(Json value) {
  if (is_null()) value_ = Array{};
  INVARIANT(is_array());
  std::get<Array>(value_).push_back(std::move(value));
  return *this;
}

std::string Json::dump() const {
  std::string out;
  JsonWriter{out}.write(*this, kOnOneLine);
  return out;
}

std::string Json::dump_pretty() const {
  std::string out;
  JsonWriter{out}.write(*this, 0);
  out += '\n';
  return out;
}

Json parse_json(std::string_view text, std::string_view subject, std::uint64_t memory_bytes_max) {
  // The parser takes a NUL for the end of the text, whatever follows it.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    base::throw_malformed(subject, "is not valid JSON: a NUL byte at offset " + std::to_string(nul));
  Builder builder(subject, memory_bytes_max);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder, nlohmann::json::input_format_t::json,
                            /*strict=*/true, /*ignore_comments=*/false);
  return builder.take();
}

// Refuses instead of ignoring: a key that is misspelt or comes from a later version would otherwise have no
// effect.
void require_known_keys(const Json& object, std::initializer_list<std::string_view> known,
                        std::string_view subject) {
  for (const auto& [key, value] : object.as_object(subject)) {
    if (std::ranges::find(known, std::string_view(key)) == known.end()) {
      base::throw_malformed(subject, "unknown key " + quote(key));
    }
  }
}

std::string place_of(std::string_view subject, std::string_view key) {
  return std::string(subject) + ": key '" + std::string(key) + "'";
}

void require_range(std::uint64_t value, std::uint64_t max, std::string_view key, std::string_view subject) {
  if (value >= 1 && value <= max) return;
  base::throw_malformed(place_of(subject, key), "expected a whole number from 1 to " + std::to_string(max) +
                                                    ", found " + std::to_string(value));
}

void require_between(double value, double low, double high, std::string_view key, std::string_view subject) {
  if (value >= low && value <= high) return;
  base::throw_malformed(place_of(subject, key), "expected a number from " + Json(low).dump() + " to " +
                                                    Json(high).dump() + ", found " + Json(value).dump());
}

}  // namespace sluice::format
