#include "format/hub/config_reader.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "format/hub/config_keys.h"

namespace sluice::format {

void refuse_value(std::string_view subject, std::string_view key, const Json& value,
                  std::string_view expected) {
  base::throw_malformed(place_of(subject, key),
                        "has the value " + base::to_printable(value.dump().substr(0, 60)) +
                            ", which is not supported, expected " + std::string(expected));
}

ConfigReader::ConfigReader(const Json& json, std::string subject)
    : json_(json), subject_(std::move(subject)) {
  static_cast<void>(json_.as_object(subject_));
}

const Json* ConfigReader::find(std::string_view key) {
  known_.push_back(key);
  const Json* value = json_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::uint64_t ConfigReader::count(std::string_view key, std::uint64_t max) {
  const Json* value = find(key);
  if (value == nullptr) base::throw_malformed(subject_, "key '" + std::string(key) + "' is missing");
  const std::uint64_t number = value->as_uint(place(key));
  require_range(number, max, key, subject_);
  return number;
}

std::uint64_t ConfigReader::count_or(std::string_view key, std::uint64_t otherwise, std::uint64_t max) {
  return find(key) == nullptr ? otherwise : count(key, max);
}

std::uint64_t ConfigReader::count_of(std::initializer_list<std::string_view> keys, std::uint64_t max) {
  std::optional<std::uint64_t> number;
  for (const std::string_view key : keys) {
    if (find(key) == nullptr) continue;
    const std::uint64_t found = count(key, max);
    if (number && *number != found) {
      base::throw_malformed(
          place(key),
          "is " + std::to_string(found) + ", but another spelling of the key is " + std::to_string(*number));
    }
    number = found;
  }
  return number ? *number : count(*keys.begin(), max);
}

std::uint64_t ConfigReader::number_from_zero(std::string_view key, std::uint64_t otherwise,
                                             std::uint64_t max) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  const std::uint64_t number = value->as_uint(place(key));
  if (number > 0) require_range(number, max, key, subject_);
  return number;
}

std::optional<double> ConfigReader::find_number(std::string_view key, double low, double high) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const double number = value->as_double(place(key));
  require_between(number, low, high, key, subject_);
  return number;
}

double ConfigReader::number_or(std::string_view key, double otherwise, double low, double high) {
  return find_number(key, low, high).value_or(otherwise);
}

bool ConfigReader::flag(std::string_view key, bool otherwise) {
  const Json* value = find(key);
  return value == nullptr ? otherwise : value->as_bool(place(key));
}

std::vector<std::uint64_t> ConfigReader::indices(std::string_view key, std::uint64_t end) {
  std::vector<std::uint64_t> numbers;
  const Json* value = find(key);
  if (value == nullptr) return numbers;
  const auto& list = value->as_array(place(key));
  // Longer lists repeat themselves, and only cost time.
  if (list.size() > end) {
    base::throw_malformed(place(key), "has " + std::to_string(list.size()) + " numbers, expected at most " +
                                          std::to_string(end));
  }
  for (const Json& item : list) {
    numbers.push_back(item.as_uint(place(key)));
    if (numbers.back() >= end) {
      base::throw_malformed(place(key), "has " + std::to_string(numbers.back()) +
                                            ", expected numbers below " + std::to_string(end));
    }
  }
  return numbers;
}

void ConfigReader::require(std::string_view key, std::initializer_list<Json> accepted) {
  const Json* value = find(key);
  if (value == nullptr || std::ranges::find(accepted, *value) != accepted.end()) return;
  refuse_value(subject_, key, *value, accepted.begin()->dump());
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

void ConfigReader::refuse_others(std::vector<std::string>* skipped) const {
  for (const Json::Member& member : json_.as_object(subject_)) {
    const auto& [key, value] = member;
    if (std::ranges::find(known_, key) != known_.end()) continue;
    const KeyMeaning meaning = meaning_of(member);
    if (meaning == KeyMeaning::unknown && skipped != nullptr) skipped->push_back(key);
    if (meaning != KeyMeaning::changes_result) continue;
    base::throw_malformed(subject_, "key " + base::to_printable(Json(key).dump().substr(0, 100)) +
                                        " with value " + base::to_printable(value.dump().substr(0, 60)) +
                                        " is not known, and may change the result");
  }
}

void ConfigReader::refuse_all_others() const {
  for (const auto& [key, value] : json_.as_object(subject_)) {
    if (std::ranges::find(known_, key) == known_.end())
      base::throw_malformed(subject_, "unknown key '" + base::to_printable(key.substr(0, 100)) + "'");
  }
}

}  // namespace sluice::format
