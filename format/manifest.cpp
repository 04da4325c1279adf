// Reads manifests (docs/manifest.md). A manifest may come from anywhere, so unknown keys, wrong types, bad
// digests, names that could not be shown and unsafe paths are all refused, with the place in the file. A key
// that this version does not know could change what the others mean, so it is not skipped. The writer is in
// manifest_text.cpp, lists of checksums are in checksum_list.cpp. Pure functions on the caller's thread.

#include "format/manifest.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/release_layout.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kManifestVersion = 1;

/// A release's name becomes a file name and an argument of commands.
void check_name(const std::string& name, std::string_view subject) {
  const auto allowed = [](char c) {
    return (base::is_alphanumeric(c) && base::to_lower(c) == c) || c == '.' || c == '_' || c == '-';
  };
  if (name.empty() || !std::ranges::all_of(name, allowed) || !base::is_alphanumeric(name.front()))
    base::throw_malformed(
        subject, "expected a name of a-z, 0-9, '.', '_' and '-', found '" + base::to_printable(name) + "'");
}

/// A text that can be shown on a terminal. Empty texts are refused: unknown values must be absent.
std::string to_text(const Json& value, const std::string& place) {
  const std::string& text = value.as_string(place);
  if (text.empty()) base::throw_malformed(place, "is empty; what is not known is left out");
  // Texts of a manifest are shown on terminals, where control characters could hide or forge lines.
  if (base::to_printable(text) != text) base::throw_malformed(place, "has characters that cannot be shown");
  return text;
}

std::string text_of(const Json& object, std::string_view key, const std::string& subject) {
  const Json* value = object.find(key);
  return value == nullptr ? std::string() : to_text(*value, subject + ": " + std::string(key));
}

std::optional<std::uint64_t> uint_of(const Json& object, std::string_view key, const std::string& subject) {
  const Json* value = object.find(key);
  if (value == nullptr) return std::nullopt;
  return value->as_uint(subject + ": " + std::string(key));
}

template <typename D>
D to_digest(const Json& value, const std::string& place) {
  const std::string& hex = value.as_string(place);
  const auto digest = base::parse_digest<D>(hex);
  if (!digest) {
    base::throw_malformed(place, "expected " + std::to_string(2 * D::kBytes) + " hex digits, found '" +
                                     base::to_printable(hex) + "'");
  }
  return *digest;
}

template <typename D>
std::optional<D> digest_of(const Json& object, std::string_view key, const std::string& subject) {
  const Json* value = object.find(key);
  if (value == nullptr) return std::nullopt;
  return to_digest<D>(*value, subject + ": " + std::string(key));
}

constexpr std::array<std::string_view, 5> kTrackerSchemes{"udp://", "http://", "https://", "ws://", "wss://"};
constexpr std::array<std::string_view, 2> kWebSeedSchemes{"http://", "https://"};

/// The URLs of an array. They are put into a magnet link and printed, so they must be visible ASCII.
std::vector<std::string> urls_of(const Json& object, std::string_view key, const std::string& subject,
                                 std::span<const std::string_view> schemes, std::string_view what) {
  std::vector<std::string> urls;
  const Json* array = object.find(key);
  if (array == nullptr) return urls;
  const std::string place = subject + ": " + std::string(key);
  for (const Json& item : array->as_array(place)) {
    const std::string& url = item.as_string(place);
    const bool known = std::ranges::any_of(schemes, [&](std::string_view scheme) {
      return url.starts_with(scheme) && url.size() > scheme.size();
    });
    const bool visible = std::ranges::all_of(url, [](char c) { return c > ' ' && c < '\x7f'; });
    if (!known || !visible) {
      base::throw_malformed(
          place, "expected the URL of a " + std::string(what) + ", found '" + base::to_printable(url) + "'");
    }
    urls.push_back(url);
  }
  return urls;
}

void read_torrent(const Json& json, const std::string& subject, Manifest& manifest) {
  require_known_keys(json, {"name", "infohash_v1", "infohash_v2", "trackers", "web_seeds"}, subject);
  manifest.torrent_name = text_of(json, "name", subject);
  manifest.infohash_v1 = digest_of<base::Sha1>(json, "infohash_v1", subject);
  manifest.infohash_v2 = digest_of<base::Sha256>(json, "infohash_v2", subject);
  manifest.trackers = urls_of(json, "trackers", subject, kTrackerSchemes, "tracker");
  manifest.web_seeds = urls_of(json, "web_seeds", subject, kWebSeedSchemes, "web seed");
}

ManifestFile read_manifest_file(const Json& json, const std::string& subject) {
  require_known_keys(json, {"path", "bytes", "md5", "sha256", "root"}, subject);
  ManifestFile file;
  file.path = json.at("path", subject).as_string(subject + ": path");
  // The path is checked before it appears in messages: it may contain terminal escapes or lead out of the
  // release's folder.
  check_release_path(file.path, subject);
  const std::string place = subject + ": '" + file.path + "'";
  file.length_bytes = uint_of(json, "bytes", place);
  file.md5 = digest_of<base::Md5>(json, "md5", place);
  file.sha256 = digest_of<base::Sha256>(json, "sha256", place);
  file.root = digest_of<base::Sha256>(json, "root", place);
  return file;
}

Shape shape_of(const Json& json, const std::string& subject) {
  Shape shape;
  for (const Json& extent : json.at("shape", subject).as_array(subject + ": shape"))
    shape.push_back(extent.as_uint(subject + ": shape"));
  if (!element_count(shape)) base::throw_malformed(subject + ": shape", "has too many elements");
  return shape;
}

ManifestTensor read_tensor(const Json& json, const std::string& subject) {
  require_known_keys(json, {"name", "dtype", "shape", "digest"}, subject);
  ManifestTensor tensor;
  tensor.name = to_text(json.at("name", subject), subject + ": name");
  const std::string place = subject + ": '" + tensor.name + "'";
  const std::string& dtype = json.at("dtype", place).as_string(place + ": dtype");
  const auto known = parse_dtype(dtype);
  if (!known) base::throw_malformed(place, "unknown dtype '" + base::to_printable(dtype) + "'");
  tensor.dtype = *known;
  tensor.shape = shape_of(json, place);
  tensor.digest = to_digest<base::Sha256>(json.at("digest", place), place + ": digest");
  return tensor;
}

ManifestContainer read_container(const Json& json, const std::string& subject) {
  require_known_keys(json, {"name", "quant", "root", "tensors_sha256"}, subject);
  ManifestContainer container;
  container.name = json.at("name", subject).as_string(subject + ": name");
  // The name is a file name, too.
  check_release_path(container.name, subject);
  const std::string place = subject + ": '" + container.name + "'";
  container.quant = json.at("quant", place).as_string(place + ": quant");
  if (container.quant != "q4" && container.quant != "q8" && container.quant != "bf16") {
    base::throw_malformed(
        place, "quant: expected q4, q8 or bf16, found '" + base::to_printable(container.quant) + "'");
  }
  container.root = to_digest<base::Sha256>(json.at("root", place), place + ": root");
  container.tensors_sha256 = digest_of<base::Sha256>(json, "tensors_sha256", place);
  return container;
}

/// Reads an array of items with unique names.
template <typename T>
std::vector<T> read_named(const Json& manifest, std::string_view key, const std::string& subject,
                          T (*read)(const Json&, const std::string&)) {
  std::vector<T> items;
  std::set<std::string> names;
  const Json* array = manifest.find(key);
  if (array == nullptr) return items;
  const std::string place = subject + ": " + std::string(key);
  for (const Json& item : array->as_array(place)) {
    items.push_back(read(item, place));
    if (!names.insert(items.back().name).second)
      base::throw_malformed(place, "'" + items.back().name + "' occurs twice");
  }
  return items;
}

/// Applies the rules for the paths of a release, which also compare paths with each other.
void check_paths(const Manifest& manifest, std::string_view subject) {
  ReleaseLayout layout;
  layout.name = manifest.torrent_name.empty() ? manifest.name : manifest.torrent_name;
  for (const ManifestFile& file : manifest.files) {
    ReleaseFile named;
    named.path = file.path;
    layout.files.push_back(std::move(named));
  }
  check_release_names(layout, subject);
}

}  // namespace

const ManifestFile* Manifest::find_file(std::string_view path) const {
  const auto found = std::ranges::find(files, path, &ManifestFile::path);
  return found == files.end() ? nullptr : &*found;
}

Manifest parse_manifest(std::string_view text, std::string_view subject_view,
                        std::uint64_t memory_bytes_max) {
  const std::string subject(subject_view);
  const Json json = parse_json(text, subject, memory_bytes_max);
  require_known_keys(
      json,
      {"manifest", "name", "description", "licence", "source", "unsupported", "torrent", "tensor_count",
       "parameter_count", "context_tokens", "params", "files", "tensors", "containers"},
      subject);
  const std::uint64_t version = json.at("manifest", subject).as_uint(subject + ": manifest");
  if (version != kManifestVersion) {
    base::throw_malformed(subject, "expected manifest version " + std::to_string(kManifestVersion) +
                                       ", found " + std::to_string(version));
  }
  Manifest manifest;
  manifest.name = json.at("name", subject).as_string(subject + ": name");
  check_name(manifest.name, subject + ": name");
  manifest.description = text_of(json, "description", subject);
  manifest.licence = text_of(json, "licence", subject);
  manifest.source = text_of(json, "source", subject);
  manifest.unsupported = text_of(json, "unsupported", subject);
  // All parts are optional: a manifest may know only an info-hash, only files, or only tensors.
  if (const Json* torrent = json.find("torrent")) read_torrent(*torrent, subject + ": torrent", manifest);
  manifest.tensor_count = uint_of(json, "tensor_count", subject);
  manifest.parameter_count = uint_of(json, "parameter_count", subject);
  manifest.context_tokens = uint_of(json, "context_tokens", subject);
  if (manifest.context_tokens == 0) base::throw_malformed(subject, "context_tokens: expected more than 0");
  // The release's own params.json, in any dialect that parse_params knows.
  if (const Json* params = json.find("params"))
    manifest.params = parse_params(params->dump(), subject + ": params");
  if (const Json* files = json.find("files")) {
    for (const Json& file : files->as_array(subject + ": files"))
      manifest.files.push_back(read_manifest_file(file, subject + ": files"));
  }
  manifest.tensors = read_named(json, "tensors", subject, read_tensor);
  manifest.containers = read_named(json, "containers", subject, read_container);
  check_paths(manifest, subject);
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& path) {
  return parse_manifest(base::read_text_file(path, kManifestBytesMax), path.string());
}

}  // namespace sluice::format
