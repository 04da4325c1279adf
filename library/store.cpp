// Models and their records are written to temporary names and renamed; the record is renamed last, and only a
// model with a record exists for later runs. Processes share the store without a server: whoever makes a
// model holds the lock of its name and quantization. Records are small and are all read for each search.

#include "library/store.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/directory.h"
#include "base/error.h"
#include "base/file_lock.h"
#include "base/output.h"
#include "format/checkpoint_files.h"
#include "format/container_format.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;
using format::Json;

// 12 hex digits (48 bits) tell the models of one store apart; the record has the whole root.
constexpr std::size_t kRootDigitsShown = 12;

// A release's name may hold any character that a file name may hold; models and locks get a harmless one.
std::string harmless_name(const std::string& name) {
  std::string stem;
  for (const char c : name.empty() ? std::string("model") : name) {
    const bool harmless = base::is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
    stem += harmless ? c : '_';
  }
  if (stem.front() == '.') stem.front() = '_';
  // File names have at most 255 bytes (NAME_MAX); quantization, root and endings are added to the stem.
  constexpr std::size_t kStemBytesMax = 100;
  if (stem.size() > kStemBytesMax) stem.resize(kStemBytesMax);
  return stem;
}

std::string file_stem(const std::string& name, const std::string& quant) {
  return harmless_name(name) + "-" + quant;
}

// Size and time of modification stand for the content: hashing a release of 87 GiB would take minutes at each
// run. A file that was changed and given its old time again is not noticed here; the container's own digests
// still say from which content it was made.
ModelSource::File describe(const fs::path& path, std::string name) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) base::throw_errno(path, "stat", errno);
  return {std::move(name), static_cast<std::uint64_t>(status.st_size),
          std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

Json to_json(const ModelSource& source, const std::string& root) {
  Json files = Json::array();
  for (const auto& file : source.files) {
    files.push_back(
        Json::object({{"path", file.path}, {"bytes", file.bytes}, {"modified_ns", file.modified_ns}}));
  }
  return Json::object({{"name", source.name},
                       {"quant", source.quant},
                       {"identity", source.identity},
                       {"container_version", format::kContainerVersion},
                       {"root_sha256", root},
                       {"files", std::move(files)}});
}

StoredModel read_record(const fs::path& record) {
  const std::string subject = record.string();
  const Json json = format::parse_json(base::read_text_file(record), subject);
  // Store::find() passes such a record over, and the model is made again in the present version. Earlier
  // versions can be read.
  if (json.at("container_version", subject).as_uint(subject) > format::kContainerVersion) {
    base::throw_malformed(subject, "is the record of a model in a later container version");
  }
  StoredModel model;
  model.path = record;
  model.path.replace_extension(".sluice");
  model.root_sha256 = json.at("root_sha256", subject).as_string(subject);
  model.source.name = json.at("name", subject).as_string(subject);
  model.source.quant = json.at("quant", subject).as_string(subject);
  model.source.identity = json.at("identity", subject).as_string(subject);
  for (const Json& file : json.at("files", subject).as_array(subject)) {
    model.source.files.push_back({file.at("path", subject).as_string(subject),
                                  file.at("bytes", subject).as_uint(subject),
                                  file.at("modified_ns", subject).as_int(subject)});  // negative before 1970
  }
  model.bytes = fs::file_size(model.path);
  return model;
}

/// The model in a file, with its record, or with the problem that keeps later runs from finding it.
StoredModel read_model(const fs::path& file) {
  auto record = file;
  record.replace_extension(".json");
  StoredModel model;
  model.path = file;
  model.bytes = fs::file_size(file);
  model.source.name = file.stem().string();
  if (!fs::is_regular_file(record)) {
    model.problem = "it has no record of what it was made from";
    return model;
  }
  try {
    return read_record(record);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    model.problem = error.what();
  }
  return model;
}

/// Regular files with that extension, sorted. A link is no file of the store.
std::vector<fs::path> list_files(const fs::path& folder, std::string_view extension) {
  std::vector<fs::path> files;
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(folder, absent)) {
    if (item.path().extension() == extension && item.is_regular_file() &&
        !item.path().filename().string().starts_with('.'))
      files.push_back(item.path());
  }
  std::ranges::sort(files);
  return files;
}

constexpr std::uint64_t kPlaceVersion = 1;

ReleasePlace read_place(const fs::path& record) {
  const std::string subject = record.string();
  const Json json = format::parse_json(base::read_text_file(record), subject);
  const auto text = [&](const char* key) { return json.at(key, subject).as_string(subject); };
  if (json.at("place", subject).as_uint(subject) != kPlaceVersion)
    base::throw_malformed(subject, "is a record of another version");
  ReleasePlace place{text("name"),
                     text("torrent_name"),
                     text("infohash_v1"),
                     text("infohash_v2"),
                     text("folder"),
                     json.at("bytes", subject).as_uint(subject),
                     json.at("complete", subject).as_bool(subject)};
  // The name becomes part of a path that `models rm` may delete.
  if (place.torrent_name.empty() || place.torrent_name == "." || place.torrent_name == ".." ||
      place.torrent_name.find('/') != std::string::npos || !place.folder.is_absolute() ||
      place.key() != record.stem().string())
    base::throw_malformed(subject, "names no release");
  return place;
}

}  // namespace

std::string StoredModel::name() const { return problem.empty() ? harmless_name(source.name) : full_name(); }

std::string StoredModel::name_with_quant() const {
  return problem.empty() ? file_stem(source.name, source.quant) : full_name();
}

std::vector<ModelSource::File> list_source_files(const fs::path& release) {
  if (!fs::is_directory(release)) {
    // Parameters, tokenizer and chat template beside the checkpoint decide what the model is, too.
    std::vector<ModelSource::File> files;
    for (const auto& file : format::checkpoint_of(release).files)
      if (fs::is_regular_file(file)) files.push_back(describe(file, file.filename().string()));
    for (const char* name :
         {"config.json", "params.json", "tokenizer.model", "tokenizer.json", "tekken.json",
          "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"}) {
      const auto sibling = release.parent_path() / name;
      if (fs::is_regular_file(sibling)) files.push_back(describe(sibling, name));
    }
    return files;
  }
  std::vector<ModelSource::File> files;
  for (const auto& item : fs::recursive_directory_iterator(release)) {
    if (!item.is_regular_file()) continue;
    const auto path = item.path().lexically_relative(release);
    if (*path.begin() == ".sluice") continue;  // files of Sluice, such as a record of proofs
    files.push_back(describe(item.path(), path.generic_string()));
  }
  std::ranges::sort(files, {}, &ModelSource::File::path);
  return files;
}

Store::Store(fs::path folder) : folder_(std::move(folder)) {
  if (folder_.empty()) {
    throw base::Error(base::ErrorKind::usage,
                      "there is no folder for the model store: neither XDG_DATA_HOME nor HOME is set");
  }
}

fs::path Store::release_folder(const std::string& infohash) const { return folder_ / "releases" / infohash; }

std::optional<StoredModel> Store::find(const ModelSource& source) const {
  for (auto& model : list()) {
    // A damaged record counts as no model; the conversion that follows replaces it.
    if (!model.problem.empty()) continue;
    // An info-hash stands for the content; a path does not, so the files are compared, too.
    const bool same = source.files.empty()
                          ? model.source.identity == source.identity && model.source.quant == source.quant
                          : model.source == source;
    if (same) return std::move(model);
  }
  return std::nullopt;
}

std::vector<StoredModel> Store::list() const {
  std::vector<StoredModel> models;
  for (const auto& file : list_files(folder_ / "models", ".sluice")) models.push_back(read_model(file));
  return models;
}

std::optional<ReleasePlace> Store::find_place(const std::string& infohash) const {
  std::error_code absent;
  for (const auto& record : list_files(folder_ / "releases", ".json")) {
    try {
      auto place = read_place(record);
      const bool same = place.infohash_v1 == infohash || place.infohash_v2 == infohash;
      if (same && !infohash.empty() && fs::exists(place.path(), absent)) return place;
    } catch (const base::Error& error) {
      // A release whose record is damaged is fetched to the store, which writes the record anew.
      if (error.kind() != base::ErrorKind::malformed) throw;
    }
  }
  return std::nullopt;
}

std::vector<ReleasePlace> Store::list_places(Observer& observer) const {
  std::vector<ReleasePlace> places;
  for (const auto& record : list_files(folder_ / "releases", ".json")) {
    try {
      places.push_back(read_place(record));
    } catch (const base::Error& error) {
      observer.on_warning(std::string(error.what()) + "; this record is left out");
    }
  }
  std::ranges::sort(places, {}, &ReleasePlace::name);
  return places;
}

fs::path Store::place_record(const std::string& key) const { return folder_ / "releases" / (key + ".json"); }

void Store::keep_place(const ReleasePlace& place) {
  base::make_directories(folder_ / "releases");
  const std::string text = Json::object({{"place", kPlaceVersion},
                                         {"name", place.name},
                                         {"torrent_name", place.torrent_name},
                                         {"infohash_v1", place.infohash_v1},
                                         {"infohash_v2", place.infohash_v2},
                                         {"folder", place.folder.string()},
                                         {"bytes", place.bytes},
                                         {"complete", place.complete}})
                               .dump_pretty();
  base::write_file(place_record(place.key()), base::as_bytes(text));
}

StoreLock Store::lock(const std::string& name, const std::string& quant, Observer& observer,
                      const std::stop_token& stop) {
  const auto path = lock_path(name, quant);
  base::make_directories(path.parent_path());
  // Lock files are never deleted: a process that waits for a deleted one would hold a lock that nobody else
  // sees.
  auto file = base::Directory::open(path.parent_path()).open_or_create(path.filename());
  bool reported = false;
  const bool locked = base::wait_for_lock(file, [&] {
    if (!std::exchange(reported, true))
      observer.on_note("another process is making this model; waiting for it");
    return !stop.stop_requested();
  });
  if (!locked) throw base::Error(base::ErrorKind::interrupted, "interrupted");
  return StoreLock(std::move(file));
}

fs::path Store::lock_path(const std::string& name, const std::string& quant) const {
  return folder_ / "locks" / (file_stem(name, quant) + ".lock");
}

fs::path Store::unfinished_path(const ModelSource& source) {
  base::make_directories(folder_ / "models");
  // The name is the same in each run, so that convert finds the part file and journal of a run that was
  // killed. The lock of this name and quantization keeps other processes away.
  return folder_ / "models" / (file_stem(source.name, source.quant) + ".unfinished");
}

StoredModel Store::keep(const fs::path& unfinished, const ModelSource& source, const base::Sha256& root) {
  const std::string root_hex = base::to_hex(root);
  const std::string stem = file_stem(source.name, source.quant) + "-" + root_hex.substr(0, kRootDigitsShown);
  const auto path = folder_ / "models" / (stem + ".sluice");
  base::require_replaceable(path);
  fs::rename(unfinished, path);
  // The record is written last, because a model without a record is made again. Writing it syncs the folder,
  // which makes the rename durable, too.
  const std::string text = to_json(source, root_hex).dump_pretty();
  base::write_file(folder_ / "models" / (stem + ".json"), base::as_bytes(text));
  return {path, fs::file_size(path), root_hex, source, {}};
}

}  // namespace sluice::library
