#pragma once
// The model store: what `run` fetched and converted, kept for the next time.
//   releases/<info-hash>/<torrent name>/              fetched releases
//   models/<name>-<quant>-<root, 12 hex>.sluice       converted models
//   models/<name>-<quant>-<root, 12 hex>.json         the record: from which source the model was made
//   releases/<info-hash>.json                         where a release lies, here or elsewhere (ReleasePlace)
//   locks/<name>-<quant>.lock                         held while a process makes that model
// A model's record names the files that it was made from with sizes and times, so that a later run finds the
// model without hashing the release again. Records and models are written to a temporary name and renamed.
// library/store_items.h lists and removes what is kept.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "library/observer.h"

namespace sluice::library {

/// A model is made from its source. Equal sources give equal models.
struct ModelSource {
  std::string name;      ///< the release's name, for people and the file name
  std::string quant;     ///< "bf16", "q8" or "q4"
  std::string identity;  ///< info-hash or path of the release
  struct File {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;
    bool operator==(const File&) const = default;
  };
  std::vector<File> files;  ///< sorted by path; empty when the release's files are not known

  bool operator==(const ModelSource&) const = default;
};

/// The files of a release folder; of a checkpoint file, its shards and the model's other files beside it.
[[nodiscard]] std::vector<ModelSource::File> list_source_files(const std::filesystem::path& release);

struct StoredModel {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  std::string root_sha256;
  ModelSource source;   ///< of a model with a problem, only `name`: the file's name without its extension
  std::string problem;  ///< why no run finds it by its source, such as a record that cannot be read; or empty

  /// The name in harmless characters, as it begins the file's name.
  [[nodiscard]] std::string name() const;
  /// "NAME-QUANT", or the file's name without its extension for a model with a problem.
  [[nodiscard]] std::string name_with_quant() const;
  /// "NAME-QUANT-ROOT12", the file's name without its extension.
  [[nodiscard]] std::string full_name() const { return path.stem().string(); }
};

/// Where a release was fetched to. The folder need not be in the store: `fetch -o DIR` is recorded, too, so
/// that `run` does not fetch the release again.
struct ReleasePlace {
  std::string name;  ///< of the known release, else the torrent's
  std::string torrent_name;
  std::string infohash_v1;  ///< hex digits; empty when the torrent has none
  std::string infohash_v2;
  std::filesystem::path folder;  ///< absolute; holds <torrent name> and .sluice
  std::uint64_t bytes = 0;       ///< of all files of the release
  bool complete = false;         ///< every file was fetched and verified

  [[nodiscard]] std::filesystem::path path() const { return folder / torrent_name; }
  /// The key of its record and of its files in .sluice: v1 if there is one.
  [[nodiscard]] const std::string& key() const { return infohash_v1.empty() ? infohash_v2 : infohash_v1; }
  [[nodiscard]] std::filesystem::path torrent() const { return folder / ".sluice" / (key() + ".torrent"); }
};

/// A lock that is held as long as the object lives. The system releases it when the process ends, even by a
/// kill.
class StoreLock final {
 public:
  explicit StoreLock(base::File file) : file_(std::move(file)) {}

 private:
  base::File file_;
};

class Store final {
 public:
  /// Error{usage} when `folder` is empty. No folder is created until something is kept.
  explicit Store(std::filesystem::path folder);

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// The output folder for fetching the release with that info-hash.
  [[nodiscard]] std::filesystem::path release_folder(const std::string& infohash) const;

  /// A model made from the same source. A source without files matches by identity and quant alone.
  [[nodiscard]] std::optional<StoredModel> find(const ModelSource& source) const;
  /// All models, sorted by file name; also those whose record is missing or cannot be read, with the problem.
  [[nodiscard]] std::vector<StoredModel> list() const;

  /// The place of the release with that info-hash, v1 or v2, as far as it still is there.
  [[nodiscard]] std::optional<ReleasePlace> find_place(const std::string& infohash) const;
  /// All recorded places, sorted by name, also those whose release is gone. A record that cannot be read is
  /// left out with a warning.
  [[nodiscard]] std::vector<ReleasePlace> list_places(Observer& observer) const;
  /// Replaces the record of the same info-hash.
  void keep_place(const ReleasePlace& place);
  [[nodiscard]] std::filesystem::path place_record(const std::string& key) const;

  /// Waits until no other process makes a model of that name and quant. Error{interrupted} when `stop` asks
  /// to end meanwhile.
  [[nodiscard]] StoreLock lock(const std::string& name, const std::string& quant, Observer& observer,
                               const std::stop_token& stop);

  /// The file that lock() locks.
  [[nodiscard]] std::filesystem::path lock_path(const std::string& name, const std::string& quant) const;

  /// The path for writing a new model, whose root digest is not known yet.
  [[nodiscard]] std::filesystem::path unfinished_path(const ModelSource& source);
  /// Gives the model that was written to `unfinished` its final name and its record.
  StoredModel keep(const std::filesystem::path& unfinished, const ModelSource& source,
                   const base::Sha256& root);

 private:
  std::filesystem::path folder_;
};

}  // namespace sluice::library
