#include "library/references.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "fetch/fetch.h"
#include "library/catalog.h"
#include "library/reference_finder.h"
#include "library/reference_reader.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

template <typename D>
std::string hex_or_empty(const std::optional<D>& digest) {
  return digest ? base::to_hex(*digest) : std::string();
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

/// The entries of a list that speak of `path`: of its own folder, or below it in a list that lies above.
std::vector<format::ManifestFile> sums_for(const fs::path& path, const fs::path& list,
                                           std::vector<format::ManifestFile> sums) {
  const fs::path folder = is_one_file(path) ? parent_of(path) : path;
  const auto way = fs::weakly_canonical(folder).lexically_relative(fs::weakly_canonical(parent_of(list)));
  if (way.empty() || way == "." || *way.begin() == "..") return sums;
  auto below = entries_below(sums, way.generic_string() + '/');
  return below.empty() ? sums : below;
}

FoundExpectations read_named(const fs::path& path, const ExpectationSources& sources,
                             StatementReader& statements) {
  FoundExpectations found;
  auto& expectations = found.expectations;
  if (!sources.torrent.empty()) {
    expectations.layout = fetch::read_torrent(sources.torrent);
    found.torrent = sources.torrent;
    statements.take_torrent(sources.torrent);
    found.found_in.push_back(sources.torrent);
  }
  if (!sources.manifest.empty()) {
    const fs::path file = find_manifest_file(sources.manifest);
    expectations.manifest = statements.read_manifest(file);
    found.found_in.push_back(file.string());
  }
  if (!sources.sums.empty()) {
    auto sums = statements.read_sums(sources.sums);
    if (sums.empty()) base::throw_malformed(sources.sums, "holds no line '<32 or 64 hex digits>  name'");
    if (!expectations.manifest) expectations.manifest.emplace();
    merge_sums(*expectations.manifest, sums_for(path, sources.sums, std::move(sums)));
    found.found_in.push_back(sources.sums);
  }
  return found;
}

/// What is said of one file alone, `name` below the release's folder. A tree speaks of one file; v1 pieces
/// run over several.
void keep_only(const std::string& name, FoundExpectations& found) {
  auto& expectations = found.expectations;
  format::Manifest manifest;
  if (expectations.manifest) manifest = std::move(*expectations.manifest);
  std::erase_if(manifest.files, [&](const format::ManifestFile& file) { return file.path != name; });
  if (expectations.layout) {
    for (const auto& file : expectations.layout->files) {
      if (file.pad || file.path != name) continue;
      if (manifest.files.empty()) manifest.files.emplace_back().path = name;
      manifest.files.front().length_bytes = file.length_bytes;
      if (file.root) manifest.files.front().root = file.root;
    }
  }
  expectations.layout.reset();
  expectations.manifest = std::move(manifest);
  expectations.only_expected = true;
}

void judge_all(const StatementReader& statements, FoundExpectations& found) {
  const auto& expectations = found.expectations;
  found.signatures = statements.conclude(expectations.layout ? &*expectations.layout : nullptr,
                                         expectations.manifest ? &*expectations.manifest : nullptr);
}

/// A file that is no release of its own may be one of a folder's.
FoundExpectations find_in_folders(const fs::path& file, StatementReader& statements, Console& console) {
  constexpr int kLevels = 2;
  fs::path folder = parent_of(file);
  std::string name = own_name(file);
  for (int level = 0; level < kLevels && folder.has_relative_path(); ++level) {
    auto found = ReleaseFinder(folder, statements, console).find();
    judge_all(statements, found);
    keep_only(name, found);
    found.folder = folder;
    if (!found.expectations.manifest->files.empty()) return found;
    name = own_name(folder) + '/' + name;
    folder = parent_of(folder);
  }
  return {};
}

FoundExpectations find_around(const fs::path& path, StatementReader& statements, Console& console) {
  auto found = ReleaseFinder(path, statements, console).find();
  if (found.empty() && is_one_file(path)) return find_in_folders(path, statements, console);
  return found;
}

/// What lies in the folder only to tell what is in it.
void excuse_statements(FoundExpectations& found) {
  for (const std::string& file : found.found_in) {
    const auto way = fs::weakly_canonical(file).lexically_relative(fs::weakly_canonical(found.folder));
    if (way.empty() || *way.begin() == "..") continue;
    found.expectations.reference_files.insert(way.generic_string());
    found.expectations.reference_files.insert(signature_path(way).generic_string());
  }
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

fs::path find_manifest_file(const std::string& name) {
  std::error_code absent;
  if (fs::is_regular_file(name, absent)) return name;
  if (const auto entry = find_release(name)) return entry->manifest_path;
  throw base::Error(base::ErrorKind::usage,
                    "--manifest " + name + ": neither a file nor the name of a known release");
}

FoundExpectations find_expectations(const fs::path& path, const ExpectationSources& sources,
                                    Console& console) {
  StatementReader statements(sources.key, console);
  FoundExpectations found =
      sources.empty() ? find_around(path, statements, console) : read_named(path, sources, statements);
  auto& expectations = found.expectations;
  if (!expectations.only_expected) judge_all(statements, found);
  const bool folder = !is_one_file(path);
  if (found.folder.empty()) found.folder = folder ? path : parent_of(path);
  const bool single = expectations.layout && expectations.layout->single_file;
  if (!folder && !found.empty() && !single && !expectations.only_expected) keep_only(own_name(path), found);
  if (expectations.layout) find_leaves(path, sources.leaves, found, console);
  excuse_statements(found);
  return found;
}

verify::Report prove(const FoundExpectations& found, const verify::Options& options, base::Progress& progress,
                     const std::stop_token& stop) {
  return verify::verify_release(found.folder, found.expectations, options, progress, stop);
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
