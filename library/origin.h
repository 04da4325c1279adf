#pragma once
// The origin of a conversion: the release, its info-hashes and the digests of its files, as a container
// records them. A container may only name an origin that was verified just now.

#include <cstdint>

#include "convert/convert.h"
#include "library/context.h"
#include "library/references.h"

namespace sluice::library {

/// The policy decides what becomes of a conversion whose release differs from its references.
enum class OriginPolicy : std::uint8_t {
  must_match,  ///< Error{verification}; a release without references is converted with a warning
  may_differ,  ///< it is converted without an origin and with a warning: its owner may have changed it
};

/// Verifies the release that request.input is of against its references, and writes the origin into the
/// request. Without references the request stays as it is.
void record_origin(const References& references, OriginPolicy policy, convert::Request& request,
                   const Context& context);

}  // namespace sluice::library
