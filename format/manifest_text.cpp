// A manifest as text: canonical JSON and the magnet link. The order of keys is fixed and unknown values are
// left out, so that equal manifests have equal bytes and can be signed and compared.

#include "format/manifest.h"

#include "base/ascii.h"

namespace sluice::format {
namespace {

constexpr std::uint64_t kManifestVersion = 1;

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

Json to_json(const ManifestTensor& tensor) {
  return Json::object({{"name", tensor.name},
                       {"dtype", to_string(tensor.dtype)},
                       {"shape", Json::array_of(tensor.shape)},
                       {"digest", base::to_hex(tensor.digest)}});
}

Json to_json(const ManifestContainer& container) {
  Json json = Json::object(
      {{"name", container.name}, {"quant", container.quant}, {"root", base::to_hex(container.root)}});
  set_digest(json, "tensors_sha256", container.tensors_sha256);
  return json;
}

template <typename T>
void set_items(Json& json, const char* key, const std::vector<T>& items) {
  if (items.empty()) return;
  Json array = Json::array();
  for (const T& item : items) array.push_back(to_json(item));
  json.set(key, std::move(array));
}

Json torrent_json(const Manifest& manifest) {
  Json json = Json::object();
  set_text(json, "name", manifest.torrent_name);
  set_digest(json, "infohash_v1", manifest.infohash_v1);
  set_digest(json, "infohash_v2", manifest.infohash_v2);
  if (!manifest.trackers.empty()) json.set("trackers", Json::array_of(manifest.trackers));
  if (!manifest.web_seeds.empty()) json.set("web_seeds", Json::array_of(manifest.web_seeds));
  return json;
}

}  // namespace

// Magnet links: BEP 9 for v1 (btih), BEP 52 for v2 (btmh); a hybrid torrent has both topics.
std::string Manifest::magnet() const {
  if (!infohash_v1 && !infohash_v2) return {};
  std::string uri = "magnet:?";
  if (infohash_v1) uri += "xt=urn:btih:" + base::to_hex(*infohash_v1);
  if (infohash_v1 && infohash_v2) uri += '&';
  // A multihash: 0x12 is SHA-256, 0x20 its length (BEP 52).
  if (infohash_v2) uri += "xt=urn:btmh:1220" + base::to_hex(*infohash_v2);
  if (!torrent_name.empty()) uri += "&dn=" + base::percent_encode(torrent_name);
  for (const std::string& tracker : trackers) uri += "&tr=" + base::percent_encode(tracker);
  for (const std::string& seed : web_seeds) uri += "&ws=" + base::percent_encode(seed);
  return uri;
}

std::string to_text(const Manifest& manifest) {
  Json json = Json::object({{"manifest", kManifestVersion}, {"name", manifest.name}});
  set_text(json, "description", manifest.description);
  set_text(json, "licence", manifest.licence);
  set_text(json, "source", manifest.source);
  set_text(json, "unsupported", manifest.unsupported);
  const Json torrent = torrent_json(manifest);
  if (torrent != Json::object()) json.set("torrent", torrent);
  set_uint(json, "tensor_count", manifest.tensor_count);
  set_uint(json, "parameter_count", manifest.parameter_count);
  set_uint(json, "context_tokens", manifest.context_tokens);
  if (manifest.params) json.set("params", to_json(*manifest.params));
  set_items(json, "files", manifest.files);
  set_items(json, "tensors", manifest.tensors);
  set_items(json, "containers", manifest.containers);
  return json.dump_pretty();
}

// Keeps what check_name() in manifest.cpp accepts; runs of other characters become one '-', and the first
// character is a letter or digit.
std::string to_release_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const char lower = base::to_lower(c);
    if (base::is_alphanumeric(lower) || (!out.empty() && (lower == '.' || lower == '_'))) {
      out += lower;
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  return out.empty() ? "release" : out;
}

}  // namespace sluice::format
