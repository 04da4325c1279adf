#pragma once

#include <string>

namespace sluice::text::jinja {

/// repr() of a float: the shortest digits that read back as the same number, 1.0, 1e+16, 1e-05.
[[nodiscard]] std::string float_text(double value);

}  // namespace sluice::text::jinja
