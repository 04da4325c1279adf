#include "format/manifest.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/release_layout.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kManifestVersion = 1;
constexpr std::uint64_t kManifestBytesMax = 16u << 20;

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// ---- Reading ----

void check_name(const std::string& name, std::string_view subject) {
  const auto allowed = [](char c) {
    return (is_alphanumeric(c) && !(c >= 'A' && c <= 'Z')) || c == '.' || c == '_' || c == '-';
  };
  if (name.empty() || !std::ranges::all_of(name, allowed) || !is_alphanumeric(name.front()))
    base::throw_malformed(
        subject, "expected a name of a-z, 0-9, '.', '_' and '-', found '" + base::to_printable(name) + "'");
}

std::string text_of(const Json& object, std::string_view key, const std::string& subject) {
  const Json* value = object.find(key);
  if (value == nullptr) return {};
  const std::string place = subject + ": " + std::string(key);
  const std::string& text = value->as_string(place);
  if (text.empty()) base::throw_malformed(place, "is empty; what is not known is left out");
  if (base::to_printable(text) != text) base::throw_malformed(place, "has characters that cannot be shown");
  return text;
}

std::optional<std::uint64_t> uint_of(const Json& object, std::string_view key, const std::string& subject) {
  const Json* value = object.find(key);
  if (value == nullptr) return std::nullopt;
  return value->as_uint(subject + ": " + std::string(key));
}

template <typename D>
std::optional<D> digest_of(const Json& object, std::string_view key, const std::string& subject) {
  const Json* value = object.find(key);
  if (value == nullptr) return std::nullopt;
  const std::string place = subject + ": " + std::string(key);
  const std::string& hex = value->as_string(place);
  const auto digest = base::parse_digest<D>(hex);
  if (!digest) {
    base::throw_malformed(place, "expected " + std::to_string(2 * D::kBytes) + " hex digits, found '" +
                                     base::to_printable(hex) + "'");
  }
  return digest;
}

void check_tracker(const std::string& url, const std::string& subject) {
  constexpr std::string_view kSchemes[] = {"udp://", "http://", "https://", "ws://", "wss://"};
  const bool known = std::ranges::any_of(kSchemes, [&](std::string_view scheme) {
    return url.starts_with(scheme) && url.size() > scheme.size();
  });
  const bool visible = std::ranges::all_of(url, [](char c) { return c > ' ' && c < '\x7f'; });
  if (!known || !visible)
    base::throw_malformed(subject, "expected the URL of a tracker, found '" + base::to_printable(url) + "'");
}

void read_torrent(const Json& json, const std::string& subject, Manifest& manifest) {
  require_known_keys(json, {"name", "infohash_v1", "infohash_v2", "trackers"}, subject);
  manifest.torrent_name = text_of(json, "name", subject);
  manifest.infohash_v1 = digest_of<base::Sha1>(json, "infohash_v1", subject);
  manifest.infohash_v2 = digest_of<base::Sha256>(json, "infohash_v2", subject);
  if (const Json* trackers = json.find("trackers")) {
    const std::string place = subject + ": trackers";
    for (const Json& tracker : trackers->as_array(place)) {
      check_tracker(tracker.as_string(place), place);
      manifest.trackers.push_back(tracker.as_string(place));
    }
  }
}

ManifestFile read_manifest_file(const Json& json, const std::string& subject) {
  require_known_keys(json, {"path", "bytes", "md5", "sha256", "root"}, subject);
  ManifestFile file;
  file.path = json.at("path", subject).as_string(subject + ": path");
  check_release_path(file.path, subject);
  const std::string place = subject + ": '" + file.path + "'";
  file.length_bytes = uint_of(json, "bytes", place);
  file.md5 = digest_of<base::Md5>(json, "md5", place);
  file.sha256 = digest_of<base::Sha256>(json, "sha256", place);
  file.root = digest_of<base::Sha256>(json, "root", place);
  return file;
}

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

// ---- Writing ----

void set_text(Json& json, const char* key, const std::string& text) {
  if (!text.empty()) json.set(key, text);
}

template <typename D>
void set_digest(Json& json, const char* key, const std::optional<D>& digest) {
  if (digest) json.set(key, base::to_hex(*digest));
}

void set_uint(Json& json, const char* key, const std::optional<std::uint64_t>& value) {
  if (value) json.set(key, *value);
}

Json to_json(const ManifestFile& file) {
  Json json = Json::object({{"path", file.path}});
  set_uint(json, "bytes", file.length_bytes);
  set_digest(json, "md5", file.md5);
  set_digest(json, "sha256", file.sha256);
  set_digest(json, "root", file.root);
  return json;
}

Json torrent_json(const Manifest& manifest) {
  Json json = Json::object();
  set_text(json, "name", manifest.torrent_name);
  set_digest(json, "infohash_v1", manifest.infohash_v1);
  set_digest(json, "infohash_v2", manifest.infohash_v2);
  if (!manifest.trackers.empty()) json.set("trackers", Json::array_of(manifest.trackers));
  return json;
}

// RFC 3986: everything outside the unreserved characters is escaped.
std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto value = static_cast<unsigned char>(c);
    if (is_alphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded += c;
    } else {
      encoded += {'%', kDigits[value >> 4], kDigits[value & 15]};
    }
  }
  return encoded;
}

// ---- Checksum lists ----

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

struct SumLine {
  std::string_view hex;
  std::string_view path;
};

/// The first digest of a line and the name after it.
std::optional<SumLine> find_sum(std::string_view line) {
  for (std::size_t start = 0; start < line.size();) {
    if (!is_alphanumeric(line[start])) {
      ++start;
      continue;
    }
    const auto word_end = std::ranges::find_if_not(line.substr(start), is_alphanumeric) - line.begin();
    const auto end = static_cast<std::size_t>(word_end);
    const std::string_view word = line.substr(start, end - start);
    const std::string_view after = line.substr(end);
    const bool digest = (word.size() == 32 || word.size() == 64) && std::ranges::all_of(word, is_hex);
    if (digest && (after.starts_with("  ") || after.starts_with(" *"))) {
      // A list's names end with the line. In a frame, as in RELEASE texts, they end at a blank.
      std::string_view path = after.substr(2);
      if (start > 0) path = path.substr(0, path.find_first_of(" \t"));
      if (path.starts_with("./")) path.remove_prefix(2);
      if (!path.empty()) return SumLine{word, path};
    }
    start = end;
  }
  return std::nullopt;
}

template <typename D>
void set_sum(std::optional<D>& digest, const SumLine& line, std::string_view subject) {
  const auto stated = base::parse_digest<D>(line.hex);
  if (digest && digest != stated)
    base::throw_malformed(subject, "has two different digests for '" + std::string(line.path) + "'");
  digest = stated;
}

}  // namespace

std::string Manifest::magnet() const {
  if (!infohash_v1 && !infohash_v2) return {};
  std::string uri = "magnet:?";
  if (infohash_v1) uri += "xt=urn:btih:" + base::to_hex(*infohash_v1);
  if (infohash_v1 && infohash_v2) uri += '&';
  // A multihash: 0x12 is SHA-256, 0x20 its length (BEP 52).
  if (infohash_v2) uri += "xt=urn:btmh:1220" + base::to_hex(*infohash_v2);
  if (!torrent_name.empty()) uri += "&dn=" + percent_encoded(torrent_name);
  for (const std::string& tracker : trackers) uri += "&tr=" + percent_encoded(tracker);
  return uri;
}

const ManifestFile* Manifest::find_file(std::string_view path) const {
  const auto found = std::ranges::find(files, path, &ManifestFile::path);
  return found == files.end() ? nullptr : &*found;
}

Manifest parse_manifest(std::string_view text, std::string_view subject_view) {
  const std::string subject(subject_view);
  const Json json = parse_json(text, subject);
  require_known_keys(json,
                     {"manifest", "name", "description", "licence", "source", "torrent", "tensor_count",
                      "parameter_count", "params", "files"},
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
  if (const Json* torrent = json.find("torrent")) read_torrent(*torrent, subject + ": torrent", manifest);
  manifest.tensor_count = uint_of(json, "tensor_count", subject);
  manifest.parameter_count = uint_of(json, "parameter_count", subject);
  // The release's own params.json text, in any dialect that parse_params knows.
  if (const Json* params = json.find("params"))
    manifest.params = parse_params(params->dump(), subject + ": params");
  if (const Json* files = json.find("files")) {
    for (const Json& file : files->as_array(subject + ": files"))
      manifest.files.push_back(read_manifest_file(file, subject + ": files"));
  }
  check_paths(manifest, subject);
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& path) {
  return parse_manifest(base::read_text_file(path, kManifestBytesMax), path.string());
}

std::string to_text(const Manifest& manifest) {
  Json json = Json::object({{"manifest", kManifestVersion}, {"name", manifest.name}});
  set_text(json, "description", manifest.description);
  set_text(json, "licence", manifest.licence);
  set_text(json, "source", manifest.source);
  const Json torrent = torrent_json(manifest);
  if (torrent != Json::object()) json.set("torrent", torrent);
  set_uint(json, "tensor_count", manifest.tensor_count);
  set_uint(json, "parameter_count", manifest.parameter_count);
  if (manifest.params) json.set("params", to_json(*manifest.params));
  if (!manifest.files.empty()) {
    Json files = Json::array();
    for (const ManifestFile& file : manifest.files) files.push_back(to_json(file));
    json.set("files", std::move(files));
  }
  return json.dump_pretty();
}

std::vector<ManifestFile> parse_sums(std::string_view text) {
  constexpr std::string_view kSubject = "checksum list";
  std::vector<ManifestFile> files;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto sum = find_sum(line);
    if (!sum) continue;
    check_release_path(sum->path, kSubject);
    auto file = std::ranges::find(files, sum->path, &ManifestFile::path);
    if (file == files.end()) {
      files.emplace_back().path = sum->path;
      file = std::prev(files.end());
    }
    if (sum->hex.size() == 2 * base::Md5::kBytes) {
      set_sum(file->md5, *sum, kSubject);
    } else {
      set_sum(file->sha256, *sum, kSubject);
    }
  }
  return files;
}

}  // namespace sluice::format
