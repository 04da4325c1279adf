#include "format/gguf/gguf_keys.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace sluice::format {

GgufKeys::GgufKeys(const CheckpointIndex& checkpoint)
    : pairs_(checkpoint.gguf_pairs), subject_(checkpoint.files.front().string()) {}

void GgufKeys::refuse(std::string_view key, const std::string& cause) const {
  base::throw_malformed(subject_, "key '" + std::string(key) + "': " + cause);
}

std::string GgufKeys::architecture() const { return text("general.architecture"); }

std::string GgufKeys::key(std::string_view rest) {
  return known_.emplace_back(architecture() + "." + std::string(rest));
}

const GgufValue* GgufKeys::find(std::string_view key) const {
  const auto found = pairs_.find(key);
  return found == pairs_.end() ? nullptr : &found->second;
}

std::optional<std::uint64_t> GgufKeys::find_uint(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  const auto* number = std::get_if<std::int64_t>(value);
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(value)) {
    const bool uniform =
        !list->empty() && std::ranges::adjacent_find(*list, std::not_equal_to{}) == list->end();
    if (!uniform) refuse(key, "has other values for some layers than for others, which is not supported");
    number = &list->front();
  }
  if (number == nullptr || *number < 0) refuse(key, "expected a whole number that is not negative");
  return static_cast<std::uint64_t>(*number);
}

std::uint64_t GgufKeys::uint(std::string_view key) const {
  const auto value = find_uint(key);
  if (!value) refuse(key, "is missing");
  return *value;
}

std::optional<double> GgufKeys::find_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* number = std::get_if<double>(value);
  if (number == nullptr || !std::isfinite(*number)) refuse(key, "expected a finite number");
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(*number)).ptr;
  double shortest = 0;
  std::from_chars(text.data(), end, shortest);
  return shortest;
}

std::string GgufKeys::text(std::string_view key) const {
  const auto text = find_text(key);
  if (!text) refuse(key, "is missing");
  return *text;
}

std::optional<std::string> GgufKeys::find_text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* text = std::get_if<std::string>(value);
  if (text == nullptr) refuse(key, "expected a text");
  return *text;
}

bool GgufKeys::truth(std::string_view key, bool otherwise) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return otherwise;
  const auto* truth = std::get_if<bool>(value);
  if (truth == nullptr) refuse(key, "expected true or false");
  return *truth;
}

void GgufKeys::refuse_others() const {
  const std::string prefix = architecture() + ".";
  for (const auto& [key, value] : pairs_) {
    if (key.starts_with(prefix) && std::ranges::find(known_, key) == known_.end())
      refuse(key, "is not known, and may change the result");
  }
}

}  // namespace sluice::format
