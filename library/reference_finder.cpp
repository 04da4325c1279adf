#include "library/reference_finder.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "fetch/fetch.h"
#include "library/catalog.h"

namespace sluice::cli {

namespace fs = std::filesystem;

std::string own_name(const fs::path& path) {
  const auto absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute.filename().string() : absolute.parent_path().filename().string();
}

fs::path parent_of(const fs::path& path) {
  const auto absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute.parent_path() : absolute.parent_path().parent_path();
}

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

bool is_one_file(const fs::path& path) {
  std::error_code absent;
  return fs::exists(path, absent) && !fs::is_directory(path, absent);
}

ReleaseFinder::ReleaseFinder(const fs::path& path, StatementReader& statements, Console& console)
    : path_(path),
      is_folder_(!is_one_file(path)),
      name_(own_name(path)),
      parent_(parent_of(path)),
      statements_(statements),
      console_(console) {}

FoundExpectations ReleaseFinder::find() {
  find_torrent();
  find_manifest();
  if (found_.empty()) find_sums();
  return std::move(found_);
}

std::vector<fs::path> ReleaseFinder::beside_and_above(const std::string& file_name) const {
  return {parent_ / file_name, parent_.parent_path() / file_name};
}

void ReleaseFinder::find_torrent() {
  std::vector<fs::path> candidates;
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(parent_ / ".sluice", absent)) {
    if (item.path().extension() == ".torrent") candidates.push_back(item.path());
  }
  std::ranges::sort(candidates);
  for (auto& candidate : beside_and_above(name_ + ".torrent")) candidates.push_back(std::move(candidate));
  for (const auto& candidate : candidates) {
    if (!fs::is_regular_file(candidate, absent)) continue;
    auto layout = fetch::read_torrent(candidate);
    if (layout.name != name_ || layout.single_file == is_folder_) continue;
    statements_.take_torrent(candidate);
    found_.expectations.layout = std::move(layout);
    found_.torrent = candidate;
    found_.found_in.push_back(candidate.string());
    return;
  }
}

void ReleaseFinder::find_manifest() {
  std::error_code absent;
  for (const auto& candidate : beside_and_above(name_ + ".manifest.json")) {
    if (!fs::is_regular_file(candidate, absent)) continue;
    auto manifest = statements_.read_manifest(candidate);
    if (is_other_release(manifest)) {
      statements_.forget_last();
      continue;
    }
    take_manifest(std::move(manifest), candidate);
    return;
  }
  for (const auto& entry : list_catalog(console_)) {
    const bool same_name = entry.manifest.name == name_ || entry.manifest.torrent_name == name_;
    const bool pinned = entry.manifest.infohash_v1 || entry.manifest.infohash_v2;
    if (!same_name || is_other_release(entry.manifest)) continue;
    // A torrent of this name proves the folder; a known release without info-hash need not be the same.
    if (found_.expectations.layout && !pinned) continue;
    take_manifest(statements_.read_manifest(entry.manifest_path), entry.manifest_path);
    return;
  }
}

void ReleaseFinder::take_manifest(format::Manifest manifest, const fs::path& from) {
  found_.expectations.manifest = std::move(manifest);
  found_.found_in.push_back(from.string());
}

// The torrent beside the folder wins: a known release of the same name may be another edition.
bool ReleaseFinder::is_other_release(const format::Manifest& manifest) const {
  if (!found_.expectations.layout) return false;
  const auto differs = [](const auto& a, const auto& b) { return a && b && *a != *b; };
  const auto& layout = *found_.expectations.layout;
  return differs(manifest.infohash_v1, layout.infohash_v1) ||
         differs(manifest.infohash_v2, layout.infohash_v2);
}

void ReleaseFinder::find_sums() {
  const std::string above = is_folder_ ? name_ + '/' : "";
  const std::string two_above = parent_.filename().string() + '/' + above;
  const fs::path grandparent = parent_.parent_path();
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

/// `own`: a list that is this release's, whose names may also be those below its folder.
bool ReleaseFinder::take_sums(const fs::path& list, const std::string& prefix, bool own) {
  std::error_code absent;
  if (!fs::is_regular_file(list, absent)) return false;
  auto files = statements_.read_sums(list);
  auto below = entries_below(files, prefix);
  const auto there = [&](const format::ManifestFile& file) {
    return fs::exists((is_folder_ ? path_ : parent_) / file.path, absent);
  };
  if (own && (below.empty() || std::ranges::any_of(files, there))) below = std::move(files);
  if (below.empty()) {
    statements_.forget_last();
    return false;
  }
  format::Manifest manifest;
  manifest.files = std::move(below);
  take_manifest(std::move(manifest), list);
  return true;
}

}  // namespace sluice::cli
