#include <algorithm>

#include "text/values/machine.h"

namespace sluice::text::jinja {

Bound::Bound(const Arguments& arguments, std::string_view callee,
             std::initializer_list<std::string_view> parameters, std::size_t required)
    : values_(parameters.size(), nullptr), callee_(callee) {
  if (arguments.positional.size() > parameters.size())
    fail(callee_ + " takes at most " + std::to_string(parameters.size()) + " arguments, found " +
         std::to_string(arguments.positional.size()));
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::ranges::find(parameters, name);
    if (found == parameters.end()) fail(callee_ + " has no argument '" + std::string(name) + "'");
    const Value*& slot = values_[static_cast<std::size_t>(found - parameters.begin())];
    if (slot != nullptr) fail(callee_ + " has the argument '" + std::string(name) + "' twice");
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i)
    if (values_[i] == nullptr)
      fail(callee_ + " lacks the argument '" + std::string(std::data(parameters)[i]) + "'");
}

bool Bound::given(std::size_t index) const { return values_[index] != nullptr && !values_[index]->is_none(); }

bool Bound::flag(std::size_t index, bool fallback) const {
  return values_[index] == nullptr ? fallback : truth(*values_[index]);
}

std::int64_t Bound::integer(std::size_t index, std::int64_t fallback) const {
  if (values_[index] == nullptr) return fallback;
  if (!values_[index]->is_integral())
    fail(callee_ + ": expected an integer, found " + std::string(values_[index]->type_name()));
  return values_[index]->integer();
}

const MarkedText& Bound::text(std::size_t index) const {
  if (!values_[index]->is_string())
    fail(callee_ + ": expected a text, found " + std::string(values_[index]->type_name()));
  return values_[index]->marked();
}

}  // namespace sluice::text::jinja
