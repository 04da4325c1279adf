// Looks for the references of one release, in the order that references.h documents. A torrent found first
// decides which manifest belongs to it; a checksum list is the weakest reference and is taken only when there
// is neither. A file that turns out to speak of another release is passed over, and its signature with it.

#include "library/reference_finder.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "library/catalog.h"
#include "library/infohash.h"
#include "library/release_path.h"

namespace sluice::library {

namespace fs = std::filesystem;

std::vector<format::ManifestFile> entries_below(const std::vector<format::ManifestFile>& files,
                                                const std::string& prefix) {
  std::vector<format::ManifestFile> below;
  for (const auto& file : files) {
    if (!file.path.starts_with(prefix) || file.path.size() == prefix.size()) continue;
    below.push_back(file);
    below.back().path.erase(0, prefix.size());
  }
  return below;
}

ReferenceFinder::ReferenceFinder(const fs::path& path, ReferenceReader& reader, const Context& context)
    : path_(path),
      is_folder_(!is_one_file(path)),
      name_(own_name(path)),
      parent_(parent_of(path)),
      reader_(reader),
      context_(context) {}

References ReferenceFinder::find() {
  // The order matters: is_other_release() and find_sums() depend on what was found before.
  find_torrent();
  find_manifest();
  if (found_.empty()) find_sums();
  return std::move(found_);
}

std::vector<fs::path> ReferenceFinder::beside_and_above(const std::string& file_name) const {
  return {parent_ / file_name, parent_.parent_path() / file_name};
}

void ReferenceFinder::find_torrent() {
  std::vector<fs::path> candidates;
  std::error_code absent;
  // The torrents that fetch saved come first: by one of them the release was downloaded.
  for (const auto& item : fs::directory_iterator(parent_ / ".sluice", absent)) {
    if (item.path().extension() == ".torrent") candidates.push_back(item.path());
  }
  // A directory lists its entries in no particular order; the result must not depend on it.
  std::ranges::sort(candidates);
  for (auto& candidate : beside_and_above(name_ + ".torrent")) candidates.push_back(std::move(candidate));
  for (const auto& candidate : candidates) {
    if (!fs::is_regular_file(candidate, absent)) continue;
    // The name of a torrent with one file is that file's, with several files their folder's.
    // A torrent of another name is not an error: .sluice holds the torrents of all releases that were fetched
    // into this folder.
    auto layout = reader_.read_torrent(candidate, [this](const format::ReleaseLayout& of) {
      return of.name == name_ && of.single_file != is_folder_;
    });
    if (!layout) continue;
    found_.expected.layout = std::move(layout);
    found_.torrent = candidate;
    found_.found_in.push_back(candidate.string());
    return;
  }
}

void ReferenceFinder::find_manifest() {
  std::error_code absent;
  for (const auto& candidate : beside_and_above(name_ + ".manifest.json")) {
    if (!fs::is_regular_file(candidate, absent)) continue;
    auto manifest = reader_.read_manifest(candidate);
    // The signature was verified while reading, and it must not count for a release that it does not cover.
    if (is_other_release(manifest)) {
      reader_.forget_last();
      continue;
    }
    take_manifest(std::move(manifest), candidate);
    return;
  }
  // The whole catalog is read, because a release's folder may have the torrent's name instead of the
  // release's.
  for (const auto& entry : list_releases(context_)) {
    // The catalog's manifests are taken as they are here; the one that is chosen is read again through the
    // reader, which verifies its signature.
    const bool same_name = entry.manifest.name == name_ || entry.manifest.torrent_name == name_;
    const bool pinned = entry.manifest.infohash_v1 || entry.manifest.infohash_v2;
    if (!same_name || is_other_release(entry.manifest)) continue;
    // A known release without an info-hash is not necessarily the release of the torrent that was found.
    if (found_.expected.layout && !pinned) continue;
    take_manifest(reader_.read_manifest(entry.manifest_path), entry.manifest_path);
    return;
  }
}

void ReferenceFinder::take_manifest(format::Manifest manifest, const fs::path& from) {
  found_.expected.manifest = std::move(manifest);
  found_.found_in.push_back(from.string());
}

// The torrent beside the folder has precedence: a known release of the same name may be another edition.
bool ReferenceFinder::is_other_release(const format::Manifest& manifest) const {
  return found_.expected.layout && contradicts_torrent(manifest, *found_.expected.layout);
}

void ReferenceFinder::find_sums() {
  // Names in a list are relative to the list's folder, so lists above the release name its files with the way
  // into it.
  const std::string above = is_folder_ ? name_ + '/' : "";
  const std::string two_above = parent_.filename().string() + '/' + above;
  const fs::path grandparent = parent_.parent_path();
  // The most specific list comes first: one with the release's name, then one in the release's folder, then
  // lists above it that may cover many releases.
  if (take_sums(parent_ / (name_ + ".SHA256SUMS"), above, true)) return;
  if (take_sums(grandparent / (name_ + ".SHA256SUMS"), two_above, true)) return;
  for (const char* list : {"SHA256SUMS", "RELEASE"}) {
    if (is_folder_ && take_sums(path_ / list, "", true)) return;
  }
  for (const char* list : {"SHA256SUMS", "RELEASE"}) {
    if (take_sums(parent_ / list, above, false)) return;
    if (take_sums(grandparent / list, two_above, false)) return;
  }
}

/// Takes the entries of `list` that name files of this release; false when there are none. `own`: the list
/// belongs to this release alone, so its entries may also be paths below the release's folder.
bool ReferenceFinder::take_sums(const fs::path& list, const std::string& prefix, bool own) {
  std::error_code absent;
  if (!fs::is_regular_file(list, absent)) return false;
  auto files = reader_.read_sums(list);
  auto below = entries_below(files, prefix);
  const auto there = [&](const format::ManifestFile& file) {
    return fs::exists((is_folder_ ? path_ : parent_) / file.path, absent);
  };
  // Tools write lists from different places, with or without the folder's name in front. Paths that exist
  // below the folder decide.
  if (own && (below.empty() || std::ranges::any_of(files, there))) below = std::move(files);
  if (below.empty()) {
    reader_.forget_last();
    return false;
  }
  format::Manifest manifest;
  manifest.files = std::move(below);
  take_manifest(std::move(manifest), list);
  return true;
}

}  // namespace sluice::library
