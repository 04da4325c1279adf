#pragma once
// The filters, by the kind of value that they are for.

#include <array>
#include <string_view>
#include <utility>

#include "text/values/machine.h"

namespace sluice::text::jinja {

using Filter = Value (*)(Machine&, const Value& subject, const Arguments&);
using NamedFilter = std::pair<std::string_view, Filter>;

[[nodiscard]] Filter find_text_filter(std::string_view name);
[[nodiscard]] Filter find_sequence_filter(std::string_view name);
[[nodiscard]] Filter find_number_filter(std::string_view name);

template <std::size_t kCount>
[[nodiscard]] Filter find_in(const std::array<NamedFilter, kCount>& filters, std::string_view name) {
  for (const auto& [known, filter] : filters)
    if (known == name) return filter;
  return nullptr;
}

}  // namespace sluice::text::jinja
