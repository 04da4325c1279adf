#include "format/model_limits.h"

#include "base/error.h"
#include "format/json.h"

namespace sluice::format {

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
