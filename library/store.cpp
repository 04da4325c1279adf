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
#include "base/error.h"
#include "base/file_lock.h"
#include "format/checkpoint_files.h"
#include "format/container_format.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;
using format::Json;

// 12 hex digits (48 bits) tell the models of one store apart; the record has the whole root.
constexpr std::size_t kRootDigitsShown = 12;

// A release's name may hold any character that a file name may hold; models and locks get a harmless one.
std::string file_stem(const std::string& name, const std::string& quant) {
  std::string stem;
  for (const char c : name.empty() ? std::string("model") : name) {
    const bool harmless = base::is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
    stem += harmless ? c : '_';
  }
  if (stem.front() == '.') stem.front() = '_';
  // File names have at most 255 bytes (NAME_MAX); quantization, root and endings are added to the stem.
  constexpr std::size_t kStemBytesMax = 100;
  if (stem.size() > kStemBytesMax) stem.resize(kStemBytesMax);
  return stem + "-" + quant;
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
    model.source.files.push_back(
        {file.at("path", subject).as_string(subject), file.at("bytes", subject).as_uint(subject),
         static_cast<std::int64_t>(file.at("modified_ns", subject).as_uint(subject))});
  }
  model.bytes = fs::file_size(model.path);
  return model;
}

std::vector<fs::path> list_records(const fs::path& models) {
  std::vector<fs::path> records;
  std::error_code absent;
  for (const auto& item : fs::directory_iterator(models, absent)) {
    // The user may have deleted the model to free space; then its record is void.
    auto model = item.path();
    if (item.path().extension() == ".json" && fs::is_regular_file(model.replace_extension(".sluice"))) {
      records.push_back(item.path());
    }
  }
  std::ranges::sort(records);
  return records;
}

}  // namespace

std::vector<ModelSource::File> list_source_files(const fs::path& release) {
  if (!fs::is_directory(release)) {
    // Parameters and tokenizer beside the checkpoint decide what the model is, too.
    std::vector<ModelSource::File> files;
    for (const auto& file : format::checkpoint_of(release).files)
      if (fs::is_regular_file(file)) files.push_back(describe(file, file.filename().string()));
    for (const char* name : {"config.json", "params.json", "tokenizer.model"}) {
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
  for (const auto& record : list_records(folder_ / "models")) {
    try {
      StoredModel model = read_record(record);
      // An info-hash stands for the content; a path does not, so the files are compared, too.
      const bool same = source.files.empty()
                            ? model.source.identity == source.identity && model.source.quant == source.quant
                            : model.source == source;
      if (same) return model;
    } catch (const base::Error& error) {
      // A damaged record counts as no model; the conversion that follows replaces it.
      if (error.kind() != base::ErrorKind::malformed) throw;
    }
  }
  return std::nullopt;
}

std::vector<StoredModel> Store::list(Observer& observer) const {
  std::vector<StoredModel> models;
  for (const auto& record : list_records(folder_ / "models")) {
    try {
      models.push_back(read_record(record));
    } catch (const base::Error& error) {
      observer.on_warning(error.what());
    }
  }
  return models;
}

StoreLock Store::lock(const std::string& name, const std::string& quant, Observer& observer,
                      const std::stop_token& stop) {
  const auto locks = folder_ / "locks";
  base::make_directories(locks);
  // Lock files are never deleted: a process that waits for a deleted one would hold a lock that nobody else
  // sees.
  auto file = base::File::create(locks / (file_stem(name, quant) + ".lock"));
  bool reported = false;
  const bool locked = base::wait_for_lock(file, [&] {
    if (!std::exchange(reported, true))
      observer.on_note("another process is making this model; waiting for it");
    return !stop.stop_requested();
  });
  if (!locked) throw base::Error(base::ErrorKind::interrupted, "interrupted");
  return StoreLock(std::move(file));
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
  fs::rename(unfinished, path);
  // The record is written last, because a model without a record is made again. Writing it syncs the folder,
  // which makes the rename durable, too.
  const std::string text = to_json(source, root_hex).dump_pretty();
  base::write_file(folder_ / "models" / (stem + ".json"), base::as_bytes(text));
  return {path, fs::file_size(path), root_hex, source};
}

}  // namespace sluice::library
