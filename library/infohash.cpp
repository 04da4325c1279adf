#include "library/infohash.h"

#include <optional>
#include <string>

#include "base/error.h"

namespace sluice::library {
namespace {

// A hash that only one side has neither agrees nor differs. Both functions are therefore needed: one is not
// the negation of the other.
template <typename D>
bool agree(const std::optional<D>& a, const std::optional<D>& b) {
  return a && b && *a == *b;
}

template <typename D>
bool differ(const std::optional<D>& a, const std::optional<D>& b) {
  return a && b && *a != *b;
}

template <typename D>
void require_same(const std::optional<D>& found, const std::optional<D>& expected,
                  const std::string& version) {
  if (!differ(found, expected)) return;
  throw base::Error(base::ErrorKind::verification,
                    "this is not the torrent that the manifest names: its info-hash " + version + " is " +
                        base::to_hex(*found) + ", expected " + base::to_hex(*expected));
}

}  // namespace

bool names_torrent(const format::Manifest& manifest, const format::ReleaseLayout& layout) {
  return agree(manifest.infohash_v1, layout.infohash_v1) || agree(manifest.infohash_v2, layout.infohash_v2);
}

bool contradicts_torrent(const format::Manifest& manifest, const format::ReleaseLayout& layout) {
  return differ(manifest.infohash_v1, layout.infohash_v1) || differ(manifest.infohash_v2, layout.infohash_v2);
}

// A hybrid torrent has two info-hashes (BEP 52). One that agrees binds the manifest; the other must not
// disagree, since a v1 hash alone (SHA-1) could be forged.
void require_named(const format::Manifest& manifest, const format::ReleaseLayout& layout) {
  require_same(layout.infohash_v1, manifest.infohash_v1, "v1");
  require_same(layout.infohash_v2, manifest.infohash_v2, "v2");
  if (names_torrent(manifest, layout)) return;
  throw base::Error(base::ErrorKind::verification,
                    "the manifest '" + manifest.name + "' names no info-hash of this torrent");
}

}  // namespace sluice::library
