#pragma once
// Typed access to the keys of a config.json. Every key that is asked for is noted, so that the others can be
// judged by their meaning at the end (config_keys.h), and a reader of a family has no list of its keys that
// could fall behind. transformers writes null for "not set", so null reads as a missing key.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"

namespace sluice::format {

/// Error{malformed} "SUBJECT: key 'KEY': has the value V, which is not supported, expected E".
[[noreturn]] void refuse_value(std::string_view subject, std::string_view key, const Json& value,
                               std::string_view expected);

/// Errors are Error{malformed} naming subject and key. The JSON must outlive the reader.
class ConfigReader final {
 public:
  /// Error{malformed} unless `json` is an object.
  ConfigReader(const Json& json, std::string subject);

  [[nodiscard]] const std::string& subject() const { return subject_; }
  /// "SUBJECT: key 'KEY'".
  [[nodiscard]] std::string place(std::string_view key) const { return place_of(subject_, key); }

  /// nullptr where the key is missing or null.
  [[nodiscard]] const Json* find(std::string_view key);

  /// A whole number from 1 to `max`, which must be there, or has a value of its own when it is missing.
  [[nodiscard]] std::uint64_t count(std::string_view key, std::uint64_t max);
  [[nodiscard]] std::uint64_t count_or(std::string_view key, std::uint64_t otherwise, std::uint64_t max);
  /// Reads a key that has several spellings; a file with two of them must give them one value.
  [[nodiscard]] std::uint64_t count_of(std::initializer_list<std::string_view> keys, std::uint64_t max);
  /// A whole number from 0 to `max`.
  [[nodiscard]] std::uint64_t number_from_zero(std::string_view key, std::uint64_t otherwise,
                                               std::uint64_t max);
  [[nodiscard]] std::optional<double> find_number(std::string_view key, double low, double high);
  [[nodiscard]] double number_or(std::string_view key, double otherwise, double low, double high);
  [[nodiscard]] bool flag(std::string_view key, bool otherwise);
  /// At most `end` whole numbers below `end`; none when the key is missing.
  [[nodiscard]] std::vector<std::uint64_t> indices(std::string_view key, std::uint64_t end);

  /// Accepts a missing key and the given values; the first of them is named as the expected one.
  void require(std::string_view key, std::initializer_list<Json> accepted);
  /// The key is known, and says nothing about the result.
  void ignore(std::initializer_list<std::string_view> keys);

  /// Judges the keys that nobody has asked for: refuses those that may change the result, and adds the names
  /// of the unknown ones to `skipped`, which may be null.
  void refuse_others(std::vector<std::string>* skipped) const;
  /// Refuses every key that nobody has asked for: for an object that describes one mechanism.
  void refuse_all_others() const;

 private:
  const Json& json_;
  std::string subject_;
  std::vector<std::string_view> known_;
};

}  // namespace sluice::format
