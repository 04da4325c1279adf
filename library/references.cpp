// Named references are read as they are; otherwise ReferenceFinder looks around the path. Afterwards the
// references are narrowed to what `path` is (one file of a release needs only its own entry), and the
// reference files themselves are marked, so that they never count as extra files. Everything runs on the
// caller's thread.

#include "library/references.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "library/catalog.h"
#include "library/reference_finder.h"
#include "library/reference_reader.h"
#include "library/release_path.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

template <typename D>
std::string hex_or_empty(const std::optional<D>& digest) {
  return digest ? base::to_hex(*digest) : std::string();
}

// Fills in digests that the manifest lacks. Digests that it has are kept.
void merge_sums(format::Manifest& manifest, std::vector<format::ManifestFile> sums) {
  std::unordered_map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < manifest.files.size(); ++i) index.emplace(manifest.files[i].path, i);
  for (auto& sum : sums) {
    const auto known = index.find(sum.path);
    if (known == index.end()) {
      manifest.files.push_back(std::move(sum));
      continue;
    }
    format::ManifestFile& file = manifest.files[known->second];
    if (!file.md5) file.md5 = sum.md5;
    if (!file.sha256) file.sha256 = sum.sha256;
  }
}

/// The entries of a checksum list that name files of `path`. A list in the release's folder names them as
/// they are; one above it names them with the way into the folder.
std::vector<format::ManifestFile> sums_for(const fs::path& path, const fs::path& list,
                                           std::vector<format::ManifestFile> sums) {
  const fs::path folder = is_one_file(path) ? parent_of(path) : path;
  // weakly_canonical() resolves links, so that a list and a folder that are reached by different paths still
  // compare.
  const auto way = fs::weakly_canonical(folder).lexically_relative(fs::weakly_canonical(parent_of(list)));
  if (way.empty() || way == "." || *way.begin() == "..") return sums;
  auto below = entries_below(sums, way.generic_string() + '/');
  return below.empty() ? sums : below;
}

References read_named(const fs::path& path, const NamedReferences& named, ReferenceReader& reader,
                      const Context& context) {
  References found;
  auto& expected = found.expected;
  if (!named.torrent.empty()) {
    expected.layout = reader.read_torrent(named.torrent);
    found.torrent = named.torrent;
    found.found_in.push_back(named.torrent);
  }
  if (!named.manifest.empty()) {
    const fs::path file = find_manifest_file(named.manifest, context.folders);
    expected.manifest = reader.read_manifest(file);
    found.found_in.push_back(file.string());
  }
  if (!named.sums.empty()) {
    // A list can be given in addition to a manifest, which then gains digests and loses none.
    auto list = reader.read_sums(named.sums);
    // A text without a single entry is not a list; verifying against it would compare nothing.
    if (list.files.empty()) base::throw_malformed(named.sums, explain_empty_list(list));
    auto sums = std::move(list.files);
    if (!expected.manifest) expected.manifest.emplace();
    merge_sums(*expected.manifest, sums_for(path, named.sums, std::move(sums)));
    found.found_in.push_back(named.sums);
  }
  return found;
}

/// Narrows the references to one file, `name` below the release's folder. A v2 hash tree covers one file and
/// is kept; v1 pieces cover several files and cannot be.
void keep_only(const std::string& name, References& found) {
  auto& expected = found.expected;
  format::Manifest manifest;
  if (expected.manifest) manifest = std::move(*expected.manifest);
  std::erase_if(manifest.files, [&](const format::ManifestFile& file) { return file.path != name; });
  if (expected.layout) {
    for (const auto& file : expected.layout->files) {
      if (file.pad || file.path != name) continue;
      if (manifest.files.empty()) manifest.files.emplace_back().path = name;
      manifest.files.front().length_bytes = file.length_bytes;
      if (file.root) manifest.files.front().root = file.root;
    }
  }
  // Without its layout the torrent's pieces are gone: they would need the other files, which this
  // verification does not read.
  expected.layout.reset();
  expected.manifest = std::move(manifest);
  expected.only_expected = true;
}

void conclude(const ReferenceReader& reader, References& found) {
  const auto& expected = found.expected;
  found.signatures = reader.conclude(expected.layout ? &*expected.layout : nullptr,
                                     expected.manifest ? &*expected.manifest : nullptr);
}

/// A file without references of its own may be a file of a release folder. Looks at the folder in which it
/// lies and at the one above it.
References find_in_folders(const fs::path& file, ReferenceReader& reader, const Context& context) {
  constexpr int kLevels = 2;
  fs::path folder = parent_of(file);
  std::string name = own_name(file);
  std::vector<std::string> unusable;
  for (int level = 0; level < kLevels && folder.has_relative_path(); ++level) {
    // Signatures are concluded with the whole references: after keep_only() the info-hashes that bind torrent
    // and manifest are no longer there.
    auto found = ReferenceFinder(folder, reader, context).find();
    conclude(reader, found);
    keep_only(name, found);
    found.folder = folder;
    if (!found.expected.manifest->files.empty()) return found;
    for (std::string& problem : found.unusable) unusable.push_back(std::move(problem));
    // Releases have folders of their own, so a file may lie one level deeper.
    name = own_name(folder) + '/' + name;
    folder = parent_of(folder);
  }
  References none;
  none.unusable = std::move(unusable);
  return none;
}

References find_around(const fs::path& path, ReferenceReader& reader, const Context& context) {
  auto found = ReferenceFinder(path, reader, context).find();
  if (!found.empty() || !is_one_file(path)) return found;
  auto in_folders = find_in_folders(path, reader, context);
  in_folders.unusable.insert(in_folders.unusable.begin(), found.unusable.begin(), found.unusable.end());
  return in_folders;
}

/// Reference files inside the release's folder are not files of the release: they never count as extra.
void ignore_reference_files(References& found) {
  for (const std::string& file : found.found_in) {
    const auto way = fs::weakly_canonical(file).lexically_relative(fs::weakly_canonical(found.folder));
    if (way.empty() || *way.begin() == "..") continue;
    found.expected.reference_files.insert(way.generic_string());
    found.expected.reference_files.insert(signature_path(way).generic_string());
  }
}

/// Opens the leaf hashes that are named, else NAME.leaves beside the torrent, or beside or above the release.
void find_leaves(const fs::path& path, const std::string& named, References& found, const Context& context) {
  std::vector<fs::path> candidates;
  if (named.empty()) {
    const fs::path beside_torrent = fs::path(found.torrent).replace_extension(".leaves");
    candidates.push_back(beside_torrent);
    for (const fs::path& folder : {parent_of(path), parent_of(path).parent_path()}) {
      const fs::path candidate = folder / (own_name(path) + ".leaves");
      if (candidate != beside_torrent) candidates.push_back(candidate);
    }
  } else {
    candidates.emplace_back(named);
  }
  for (const auto& candidate : candidates) {
    if (named.empty() && !fs::is_regular_file(candidate)) continue;
    try {
      found.expected.leaves = std::make_shared<const format::LeafFile>(format::LeafFile::open(candidate));
      found.found_in.push_back(candidate.string());
      return;
    } catch (const base::Error& error) {
      if (!named.empty() || error.kind() != base::ErrorKind::malformed) throw;
      // Leaves only make the location of damage more precise, so a bad leaf file that was found by chance
      // does not end the verification.
      context.observer.on_warning(std::string(error.what()) + "; damage is placed to pieces");
    }
  }
}

}  // namespace

std::string References::release_name() const {
  if (expected.manifest && !expected.manifest->name.empty()) return expected.manifest->name;
  return expected.layout ? expected.layout->name : std::string();
}

std::string References::infohash_v1() const {
  if (expected.layout) return hex_or_empty(expected.layout->infohash_v1);
  return expected.manifest ? hex_or_empty(expected.manifest->infohash_v1) : std::string();
}

std::string References::infohash_v2() const {
  if (expected.layout) return hex_or_empty(expected.layout->infohash_v2);
  return expected.manifest ? hex_or_empty(expected.manifest->infohash_v2) : std::string();
}

std::string References::licence() const {
  return expected.manifest ? expected.manifest->licence : std::string();
}

References find_references(const fs::path& path, const NamedReferences& named, const Context& context) {
  ReferenceReader reader(named.key, context);
  References found =
      named.empty() ? find_around(path, reader, context) : read_named(path, named, reader, context);
  auto& expected = found.expected;
  // find_in_folders has concluded for the folder that it chose.
  if (!expected.only_expected) conclude(reader, found);
  const bool folder = !is_one_file(path);
  if (found.folder.empty()) found.folder = folder ? path : parent_of(path);
  // A single-file torrent describes this one file and needs no narrowing; its v1 pieces cover no other file.
  const bool single = expected.layout && expected.layout->single_file;
  if (!folder && !found.empty() && !single && !expected.only_expected) keep_only(own_name(path), found);
  if (expected.layout) {
    for (const std::string& warning : expected.layout->warnings)
      context.observer.on_warning(found.torrent.string() + ": " + warning);
    find_leaves(path, named.leaves, found, context);
  }
  // This is the last step, because find_leaves() adds to found_in.
  ignore_reference_files(found);
  return found;
}

}  // namespace sluice::library
