#pragma once
// A JSON value: for manifests, params.json, the container's directory, the worker pipe and every line that
// `--json` prints. The parser behind it is nlohmann-json, which no other room sees.
//
// Parsing is strict: one document, UTF-8, no comments, no duplicate keys, at most kJsonDepthMax levels.
// Objects keep the order in which keys were set, so that output is reproducible.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::format {

constexpr int kJsonDepthMax = 32;

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;  ///< null
  // Out of line, because a variant's copy and move are much code in every place that makes a value.
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();

  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T value) {
    if constexpr (std::is_signed_v<T>) {
      if (value < 0) {
        value_ = static_cast<std::int64_t>(value);
        return;
      }
    }
    value_ = static_cast<std::uint64_t>(value);
  }
  Json(double value) : value_(value) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  /// Json::object({{"event", "file"}, {"bytes", 12}})
  [[nodiscard]] static Json object(std::initializer_list<Member> members = {});
  [[nodiscard]] static Json array(std::initializer_list<Json> items = {});
  template <typename Range>
  [[nodiscard]] static Json array_of(const Range& range) {
    Array items;
    for (const auto& item : range) items.emplace_back(item);
    return Json(std::move(items));
  }

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_string() const { return std::holds_alternative<std::string>(value_); }
  [[nodiscard]] bool is_number() const;
  [[nodiscard]] bool is_integer() const;  ///< written without point and exponent
  [[nodiscard]] bool is_array() const { return std::holds_alternative<Array>(value_); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<Object>(value_); }

  // The typed value. A value of another kind, or a number out of range, throws Error{malformed}
  // "SUBJECT: expected a string, found 12". `subject` names the file and the place in it.
  [[nodiscard]] bool as_bool(std::string_view subject) const;
  [[nodiscard]] std::uint64_t as_uint(std::string_view subject) const;
  [[nodiscard]] std::int64_t as_int(std::string_view subject) const;
  [[nodiscard]] double as_double(std::string_view subject) const;
  [[nodiscard]] const std::string& as_string(std::string_view subject) const;
  [[nodiscard]] const Array& as_array(std::string_view subject) const;
  [[nodiscard]] const Object& as_object(std::string_view subject) const;

  /// The member with that key; nullptr when there is none or this is not an object.
  [[nodiscard]] const Json* find(std::string_view key) const;
  /// The member with that key; Error{malformed} "SUBJECT: key 'x' is missing" when there is none.
  [[nodiscard]] const Json& at(std::string_view key, std::string_view subject) const;
  /// Sets or replaces a member; null becomes an object first.
  Json& set(std::string key, Json value);
  /// Appends to an array; null becomes an array first.
  Json& push_back(Json value);

  /// Compact text on one line. Malformed UTF-8 in strings is replaced by U+FFFD. NaN and infinity become
  /// null.
  [[nodiscard]] std::string dump() const;
  /// Indented by two spaces, with a line end at the end.
  [[nodiscard]] std::string dump_pretty() const;

  bool operator==(const Json&) const = default;

 private:
  friend struct JsonWriter;
  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Array, Object> value_;
};

/// The memory for the values of one document where the caller has no limit of its own.
constexpr std::uint64_t kJsonMemoryBytesMax = std::uint64_t{512} << 20;

/// Throws Error{malformed} "SUBJECT: is not valid JSON: ..." with the position, and Error{usage} with the
/// needed memory when the values take more than `memory_bytes_max`: two bytes of text can be a value of 40
/// bytes.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view subject,
                              std::uint64_t memory_bytes_max = kJsonMemoryBytesMax);

/// Throws Error{malformed} "SUBJECT: unknown key 'x'" for an object with a key that is not in `known`.
void require_known_keys(const Json& object, std::initializer_list<std::string_view> known,
                        std::string_view subject);

/// "SUBJECT: key 'KEY'", as errors name a member of a JSON object.
[[nodiscard]] std::string place_of(std::string_view subject, std::string_view key);
/// Error{malformed} naming key, bounds and value unless 1 <= value <= max.
void require_range(std::uint64_t value, std::uint64_t max, std::string_view key, std::string_view subject);
/// Error{malformed} naming key, bounds and value unless low <= value <= high; NaN is refused.
void require_between(double value, double low, double high, std::string_view key, std::string_view subject);

}  // namespace sluice::format
