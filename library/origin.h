#pragma once
// The origin of a conversion: the release, its info-hashes and the digests of its files, as a container
// records them. A container may only name an origin that was verified just now.

#include <cstdint>
#include <filesystem>
#include <string>

#include "convert/convert.h"
#include "format/json.h"
#include "library/context.h"
#include "library/references.h"

namespace sluice::library {

/// The policy decides what becomes of a conversion whose release differs from its references.
enum class OriginPolicy : std::uint8_t {
  must_match,     ///< Error{verification} that names the damaged files as `verify` does
  allow_damaged,  ///< it is converted without an origin and with a warning, and the damage is recorded
};

/// Verifies the release that request.input is of against its references, and writes the origin into the
/// request. Sizes are compared first: a file of another size needs no hashing. Without references, or
/// when files are merely missing or unproven, the request stays as it is, which is a warning.
void record_origin(const References& references, OriginPolicy policy, convert::Request& request,
                   const Context& context);

/// Says of which damaged files a container was made, from its provenance; empty for all other containers.
[[nodiscard]] std::string describe_damaged_sources(const format::Json& provenance);
/// The same for a container that need not be readable.
[[nodiscard]] std::string damaged_sources_of(const std::filesystem::path& container);

}  // namespace sluice::library
