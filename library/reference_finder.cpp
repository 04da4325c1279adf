// Looks for the references of one release, in the order that references.h documents. A torrent found first
// decides which manifest belongs to it; a checksum list is the weakest reference and is taken only when there
// is neither. A file that turns out to speak of another release is passed over, and its signature with it.

#include "library/reference_finder.h"

#include <algorithm>
#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "library/catalog.h"
#include "library/infohash.h"
#include "library/list_names.h"
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

void ReferenceFinder::skip(const std::string& problem) {
  found_.unusable.push_back(problem);
  context_.observer.on_warning(problem + "; this reference is left out");
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
  // A dry run saves a torrent, too, but only a fetch leaves a journal.
  std::ranges::stable_partition(candidates, [&](const fs::path& torrent) {
    return fs::exists(fs::path(torrent).replace_extension(".journal"), absent);
  });
  for (auto& candidate : beside_and_above(name_ + ".torrent")) candidates.push_back(std::move(candidate));
  choose_torrent(candidates);
}

/// Two torrents can have one name. The one that is tried first is taken unless another fits more files.
void ReferenceFinder::choose_torrent(const std::vector<fs::path>& candidates) {
  std::error_code absent;
  std::size_t best = 0;
  for (const auto& candidate : candidates) {
    if (!fs::is_regular_file(candidate, absent)) continue;
    auto layout = read_torrent(candidate);
    if (!layout) continue;
    const std::size_t fitting = count_fitting_files(*layout);
    if (found_.expected.layout && fitting <= best) continue;
    best = fitting;
    found_.torrent = candidate;
    const auto is_file = [](const format::ReleaseFile& file) { return !file.pad; };
    const auto files = static_cast<std::size_t>(std::ranges::count_if(layout->files, is_file));
    found_.expected.layout = std::move(layout);
    if (fitting == files) break;
  }
  if (!found_.expected.layout) return;
  found_.expected.layout = reader_.take_torrent(found_.torrent, std::move(*found_.expected.layout));
  found_.found_in.push_back(found_.torrent.string());
}

/// Nothing for a torrent of another release. A damaged one concerns nobody but the release that it was for:
/// .sluice holds the torrents of all releases that were fetched into the folder.
std::optional<format::ReleaseLayout> ReferenceFinder::read_torrent(const fs::path& file) {
  try {
    auto layout = fetch::read_torrent(file);
    // The name of a torrent with one file is that file's, with several files their folder's.
    if (layout.name == name_ && layout.single_file != is_folder_) return layout;
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed && error.kind() != base::ErrorKind::io) throw;
    skip(error.what());
  }
  return std::nullopt;
}

/// Files of the layout that are on the disk with the layout's length.
std::size_t ReferenceFinder::count_fitting_files(const format::ReleaseLayout& layout) const {
  const auto fits = [&](const format::ReleaseFile& file) {
    std::error_code absent;
    const fs::path path = is_folder_ ? path_ / file.path : path_;
    return !file.pad && fs::file_size(path, absent) == file.length_bytes && !absent;
  };
  return static_cast<std::size_t>(std::ranges::count_if(layout.files, fits));
}

void ReferenceFinder::find_manifest() {
  std::error_code absent;
  for (const auto& candidate : beside_and_above(name_ + ".manifest.json")) {
    if (!fs::is_regular_file(candidate, absent)) continue;
    auto manifest = read_manifest(candidate);
    if (!manifest) continue;
    // The signature was verified while reading, and it must not count for a release that it does not cover.
    if (is_other_release(*manifest)) {
      reader_.forget_last();
      continue;
    }
    take_manifest(std::move(*manifest), {candidate.string()});
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
    take_manifest(reader_.read_manifest(entry.manifest_path), {entry.manifest_path.string()});
    return;
  }
}

/// Nothing for a manifest that is damaged; its signature does not count then.
std::optional<format::Manifest> ReferenceFinder::read_manifest(const fs::path& file) {
  try {
    return reader_.read_manifest(file);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed && error.kind() != base::ErrorKind::io) throw;
    skip(error.what());
  }
  return std::nullopt;
}

void ReferenceFinder::take_manifest(format::Manifest manifest, const std::vector<std::string>& from) {
  found_.expected.manifest = std::move(manifest);
  found_.found_in.insert(found_.found_in.end(), from.begin(), from.end());
}

// The torrent beside the folder has precedence: a known release of the same name may be another edition.
bool ReferenceFinder::is_other_release(const format::Manifest& manifest) const {
  return found_.expected.layout && contradicts_torrent(manifest, *found_.expected.layout);
}

// ---- Lists of checksums ----

std::string explain_empty_list(const format::ChecksumList& list) {
  if (list.not_compared.empty())
    return "holds no line '<32 or 64 hex digits>  name' or 'SHA256 (name) = <64 hex digits>'";
  std::set<std::string> algorithms;
  for (const auto& entry : list.not_compared) algorithms.insert(entry.algorithm);
  std::string names;
  for (const std::string& algorithm : algorithms) names += (names.empty() ? "" : ", ") + algorithm;
  return "has digests that are not compared (" + base::to_printable(names) + "); SHA-256 and MD5 are";
}

void ReferenceFinder::find_sums() {
  // Names in a list are relative to the list's folder, so lists above the release name its files with the way
  // into it.
  const std::string above = is_folder_ ? name_ + '/' : "";
  const std::string two_above = parent_.filename().string() + '/' + above;
  const fs::path grandparent = parent_.parent_path();
  const auto of_name = [&](const std::string& name) { return listed_name(name) == name_; };
  // The most specific lists come first: those with the release's name, then those in the release's folder,
  // then lists above it that may cover many releases.
  if (take_sums(lists_in(parent_, of_name), above, true)) return;
  if (take_sums(lists_in(grandparent, of_name), two_above, true)) return;
  if (is_folder_ && take_sums(lists_in(path_, is_list_name), "", true)) return;
  if (take_sums(lists_in(parent_, is_list_name), above, false)) return;
  static_cast<void>(take_sums(lists_in(grandparent, is_list_name), two_above, false));
}

std::vector<fs::path> ReferenceFinder::lists_in(const fs::path& folder,
                                                const std::function<bool(const std::string&)>& chosen) {
  std::vector<fs::path> lists;
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(folder, absent))
    if (chosen(item.path().filename().string()) && item.is_regular_file(absent)) lists.push_back(item.path());
  // SHA-256 is the stronger digest, and SHA256SUMS the usual list of it. The rest is in the order of names.
  const auto rank = [](const fs::path& list) {
    const std::string name = base::to_lower(list.filename().string());
    return std::pair(name.find("sha256sums") != std::string::npos ? 0
                     : name.find("sha256") != std::string::npos   ? 1
                                                                  : 2,
                     list.filename().string());
  };
  std::ranges::sort(lists, {}, rank);
  return lists;
}

/// Takes the entries of the lists that name files of this release; false when there are none. `own`: the
/// lists belong to this release alone, so their entries may also be paths below the release's folder.
bool ReferenceFinder::take_sums(const std::vector<fs::path>& lists, const std::string& prefix, bool own) {
  format::Manifest manifest;
  std::set<std::string> known;
  std::vector<std::string> taken;
  for (const fs::path& list : lists) {
    const std::size_t before = known.size();
    try {
      take_list(list, prefix, own, known, manifest);
    } catch (const base::Error& error) {
      if (error.kind() != base::ErrorKind::malformed && error.kind() != base::ErrorKind::io) throw;
      skip(error.what());
    }
    if (known.size() > before) taken.push_back(list.string());
  }
  if (taken.empty()) return false;
  take_manifest(std::move(manifest), taken);
  return true;
}

/// Adds the files of one list that no list has named before: every file of a release may have a list of its
/// own.
void ReferenceFinder::take_list(const fs::path& file, const std::string& prefix, bool own,
                                std::set<std::string>& known, format::Manifest& manifest) {
  std::vector<format::ManifestFile> fresh;
  const auto list = reader_.read_sums(file, [&](const format::ChecksumList& read) {
    fresh = entries_of(file, read, prefix, own);
    std::erase_if(fresh, [&](const format::ManifestFile& entry) { return known.contains(entry.path); });
    return !fresh.empty();
  });
  for (format::ManifestFile& entry : fresh) {
    known.insert(entry.path);
    manifest.files.push_back(std::move(entry));
  }
  if (fresh.empty()) note_not_compared(file, list, prefix, own);
}

/// The entries that name files of this release, by their paths below its folder.
std::vector<format::ManifestFile> ReferenceFinder::entries_of(const fs::path& file,
                                                              const format::ChecksumList& list,
                                                              const std::string& prefix, bool own) const {
  auto below = entries_below(list.files, prefix);
  const auto there = [&](const format::ManifestFile& entry) {
    std::error_code absent;
    return fs::exists((is_folder_ ? path_ : parent_) / entry.path, absent);
  };
  // Tools write lists from different places, with or without the folder's name in front. Paths that exist
  // below the folder decide. A list beside the folder whose files all exist elsewhere is of something else,
  // such as an archive of the release, unless it has the name that publish gives.
  const bool any_there = std::ranges::any_of(list.files, there);
  const bool certain = prefix.empty() || file.filename() == name_ + ".SHA256SUMS";
  if (own && (any_there || (below.empty() && certain))) below = list.files;
  // A list beside a file may be about its neighbours alone.
  if (!is_folder_)
    std::erase_if(below, [&](const format::ManifestFile& entry) { return entry.path != name_; });
  return below;
}

/// Says why a list that belongs to this release gives nothing. A RELEASE text need not be a list.
void ReferenceFinder::note_not_compared(const fs::path& file, const format::ChecksumList& list,
                                        const std::string& prefix, bool own) {
  const bool names_release = std::ranges::any_of(list.not_compared, [&](const auto& entry) {
    return is_folder_ ? entry.path.starts_with(prefix) : entry.path == prefix + name_;
  });
  const bool empty = list.files.empty() && list.not_compared.empty();
  if (names_release || (empty && own && file.filename() != "RELEASE"))
    skip(file.string() + ": " + explain_empty_list(list));
}

}  // namespace sluice::library
