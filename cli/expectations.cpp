#include "cli/expectations.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/catalog.h"
#include "fetch/fetch.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

template <typename D>
std::string hex_or_empty(const std::optional<D>& digest) {
  return digest ? base::to_hex(*digest) : std::string();
}

// The folder's own name, also for "." and "dir/".
std::string own_name(const fs::path& path) {
  const auto absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute.filename().string() : absolute.parent_path().filename().string();
}

fs::path parent_of(const fs::path& path) {
  const auto absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute.parent_path() : absolute.parent_path().parent_path();
}

// Looks around one release folder.
class Finder {
 public:
  Finder(const fs::path& path, Console& console)
      : path_(path), name_(own_name(path)), parent_(parent_of(path)), console_(console) {}

  FoundExpectations find() {
    find_torrent();
    find_manifest();
    if (found_.empty()) find_sums();
    return std::move(found_);
  }

 private:
  [[nodiscard]] std::vector<fs::path> beside_and_above(const std::string& file_name) const {
    return {parent_ / file_name, parent_.parent_path() / file_name};
  }

  void find_torrent() {
    std::vector<fs::path> candidates;
    std::error_code absent;
    for (const auto& item : fs::directory_iterator(parent_ / ".sluice", absent)) {
      if (item.path().extension() == ".torrent") candidates.push_back(item.path());
    }
    std::ranges::sort(candidates);
    for (auto& candidate : beside_and_above(name_ + ".torrent")) candidates.push_back(std::move(candidate));
    for (const auto& candidate : candidates) {
      if (!fs::is_regular_file(candidate)) continue;
      auto layout = fetch::read_torrent(candidate);
      if (layout.name != name_) continue;
      found_.expectations.layout = std::move(layout);
      found_.torrent = candidate;
      found_.found_in.push_back(candidate.string());
      return;
    }
  }

  void find_manifest() {
    for (const auto& candidate : beside_and_above(name_ + ".manifest.json")) {
      if (!fs::is_regular_file(candidate)) continue;
      auto manifest = format::read_manifest(candidate);
      if (is_other_release(manifest)) continue;
      take_manifest(std::move(manifest), candidate);
      return;
    }
    for (auto& entry : list_catalog(console_)) {
      const bool same_name = entry.manifest.name == name_ || entry.manifest.torrent_name == name_;
      const bool pinned = entry.manifest.infohash_v1 || entry.manifest.infohash_v2;
      if (!same_name || is_other_release(entry.manifest)) continue;
      // A torrent of this name proves the folder; a known release without info-hash need not be the same.
      if (found_.expectations.layout && !pinned) continue;
      take_manifest(std::move(entry.manifest), entry.manifest_path);
      return;
    }
  }

  void take_manifest(format::Manifest manifest, const fs::path& from) {
    found_.expectations.manifest = std::move(manifest);
    found_.found_in.push_back(from.string());
  }

  // The torrent beside the folder wins: a known release of the same name may be another edition.
  [[nodiscard]] bool is_other_release(const format::Manifest& manifest) const {
    if (!found_.expectations.layout) return false;
    const auto differs = [](const auto& a, const auto& b) { return a && b && *a != *b; };
    const auto& layout = *found_.expectations.layout;
    return differs(manifest.infohash_v1, layout.infohash_v1) ||
           differs(manifest.infohash_v2, layout.infohash_v2);
  }

  void find_sums() {
    std::vector<fs::path> candidates = beside_and_above(name_ + ".SHA256SUMS");
    candidates.push_back(path_ / "SHA256SUMS");
    candidates.push_back(path_ / "RELEASE");
    for (const auto& candidate : candidates) {
      std::error_code not_there;
      if (!fs::is_regular_file(candidate, not_there)) continue;
      auto files = format::parse_sums(base::read_text_file(candidate));
      if (files.empty()) continue;
      format::Manifest manifest;
      manifest.files = std::move(files);
      take_manifest(std::move(manifest), candidate);
      return;
    }
  }

  fs::path path_;
  std::string name_;
  fs::path parent_;
  Console& console_;
  FoundExpectations found_;
};

format::Manifest read_named_manifest(const std::string& name, std::vector<std::string>& found_in) {
  if (fs::is_regular_file(name)) {
    found_in.push_back(name);
    return format::read_manifest(name);
  }
  if (auto entry = find_release(name)) {
    found_in.push_back(entry->manifest_path.string());
    return std::move(entry->manifest);
  }
  throw base::Error(base::ErrorKind::usage,
                    "--manifest " + name + ": neither a file nor the name of a known release");
}

// Digests that the manifest lacks are filled in; what it says stays.
void merge_sums(format::Manifest& manifest, std::vector<format::ManifestFile> sums) {
  for (auto& sum : sums) {
    const auto known = std::ranges::find(manifest.files, sum.path, &format::ManifestFile::path);
    if (known == manifest.files.end()) {
      manifest.files.push_back(std::move(sum));
      continue;
    }
    if (!known->md5) known->md5 = sum.md5;
    if (!known->sha256) known->sha256 = sum.sha256;
  }
}

FoundExpectations read_named(const ExpectationSources& sources) {
  FoundExpectations found;
  auto& expectations = found.expectations;
  if (!sources.torrent.empty()) {
    expectations.layout = fetch::read_torrent(sources.torrent);
    found.torrent = sources.torrent;
    found.found_in.push_back(sources.torrent);
  }
  if (!sources.manifest.empty())
    expectations.manifest = read_named_manifest(sources.manifest, found.found_in);
  if (!sources.sums.empty()) {
    auto sums = format::parse_sums(base::read_text_file(sources.sums));
    if (sums.empty()) base::throw_malformed(sources.sums, "holds no line '<32 or 64 hex digits>  name'");
    if (!expectations.manifest) expectations.manifest.emplace();
    merge_sums(*expectations.manifest, std::move(sums));
    found.found_in.push_back(sources.sums);
  }
  return found;
}

/// NAME.leaves beside the torrent, or beside or above the release.
void find_leaves(const fs::path& path, const std::string& named, FoundExpectations& found, Console& console) {
  std::vector<fs::path> candidates;
  if (named.empty()) {
    candidates.push_back(fs::path(found.torrent).replace_extension(".leaves"));
    candidates.push_back(parent_of(path) / (own_name(path) + ".leaves"));
    candidates.push_back(parent_of(path).parent_path() / (own_name(path) + ".leaves"));
  } else {
    candidates.emplace_back(named);
  }
  for (const auto& candidate : candidates) {
    if (named.empty() && !fs::is_regular_file(candidate)) continue;
    try {
      found.expectations.leaves = std::make_shared<const format::LeafFile>(format::LeafFile::open(candidate));
      found.found_in.push_back(candidate.string());
      return;
    } catch (const base::Error& error) {
      if (!named.empty() || error.kind() != base::ErrorKind::malformed) throw;
      console.warn(std::string(error.what()) + "; damage is placed to pieces");
    }
  }
}

}  // namespace

std::string FoundExpectations::release_name() const {
  if (expectations.manifest && !expectations.manifest->name.empty()) return expectations.manifest->name;
  return expectations.layout ? expectations.layout->name : std::string();
}

std::string FoundExpectations::infohash_v1() const {
  if (expectations.layout) return hex_or_empty(expectations.layout->infohash_v1);
  return expectations.manifest ? hex_or_empty(expectations.manifest->infohash_v1) : std::string();
}

std::string FoundExpectations::infohash_v2() const {
  if (expectations.layout) return hex_or_empty(expectations.layout->infohash_v2);
  return expectations.manifest ? hex_or_empty(expectations.manifest->infohash_v2) : std::string();
}

std::string FoundExpectations::licence() const {
  return expectations.manifest ? expectations.manifest->licence : std::string();
}

FoundExpectations find_expectations(const fs::path& path, const ExpectationSources& sources,
                                    Console& console) {
  FoundExpectations found = sources.empty() ? Finder(path, console).find() : read_named(sources);
  found.folder = fs::is_directory(path) ? path : parent_of(path);
  if (found.expectations.layout) find_leaves(path, sources.leaves, found, console);
  return found;
}

verify::Report prove(const FoundExpectations& found, const verify::Options& options, base::Progress& progress,
                     const std::stop_token& stop) {
  auto report = verify::verify_release(found.folder, found.expectations, options, progress, stop);
  if (found.expectations.layout && found.expectations.layout->single_file) {
    // The folder is not the release's own; what else lies in it is nobody's business.
    std::erase_if(report.files,
                  [](const verify::FileReport& file) { return file.state == verify::FileState::extra; });
  }
  return report;
}

void record_origin(const FoundExpectations& found, convert::Request& request) {
  request.release_name = found.release_name();
  request.infohash_v1 = found.infohash_v1();
  request.infohash_v2 = found.infohash_v2();
  request.licence = found.licence();
  std::map<std::string, convert::SourceFile> files;
  if (found.expectations.layout) {
    for (const auto& file : found.expectations.layout->files) {
      if (!file.pad) files[file.path] = {file.path, file.length_bytes, "", hex_or_empty(file.root)};
    }
  }
  if (found.expectations.manifest) {
    for (const auto& file : found.expectations.manifest->files) {
      auto& entry = files[file.path];
      entry.path = file.path;
      if (file.length_bytes) entry.length_bytes = *file.length_bytes;
      if (file.sha256) entry.sha256 = base::to_hex(*file.sha256);
      if (file.root) entry.pieces_root = base::to_hex(*file.root);
    }
  }
  for (auto& [path, file] : files) request.files.push_back(std::move(file));
}

}  // namespace sluice::cli
