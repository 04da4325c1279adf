#pragma once
// Info-hashes that two references give: the same torrent, or another one.

#include "format/manifest.h"
#include "format/release_layout.h"

namespace sluice::library {

/// True when the manifest names one of the torrent's info-hashes.
[[nodiscard]] bool names_torrent(const format::Manifest& manifest, const format::ReleaseLayout& layout);

/// True when the manifest names another info-hash than the torrent's, v1 or v2.
[[nodiscard]] bool contradicts_torrent(const format::Manifest& manifest, const format::ReleaseLayout& layout);

/// Error{verification} unless the manifest names the torrent and contradicts neither of its info-hashes.
void require_named(const format::Manifest& manifest, const format::ReleaseLayout& layout);

}  // namespace sluice::library
