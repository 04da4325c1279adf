#pragma once
// The model store: what `run` fetched and converted, kept for the next time.
//   releases/<info-hash>/<torrent name>/              fetched releases
//   models/<name>-<quant>-<root, 12 hex>.sluice       converted models
//   models/<name>-<quant>-<root, 12 hex>.json         from which source each was made
//   locks/                                            one lock a model in work, so that two runs do not
//   convert twice
// A model's record names the files it was made from with sizes and times, so that a later run finds it
// without hashing the release again. Records and models are written aside and renamed.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "cli/console.h"

namespace sluice::cli {

/// What a model is made from: equal sources give equal models.
struct ModelSource {
  std::string name;      ///< of the release, for people and the file name
  std::string quant;     ///< "bf16", "q8" or "q4"
  std::string identity;  ///< info-hash or path of the release
  struct File {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;
    bool operator==(const File&) const = default;
  };
  std::vector<File> files;  ///< sorted by path; empty when the release itself is not at hand

  bool operator==(const ModelSource&) const = default;
};

/// The files of a release folder, or the one of a single-file release.
[[nodiscard]] std::vector<ModelSource::File> list_source_files(const std::filesystem::path& release);

struct StoredModel {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  std::string root_sha256;
  ModelSource source;
};

/// Held as long as it lives; the system gives it back when a process ends in whatever way.
class StoreLock final {
 public:
  explicit StoreLock(base::File file) : file_(std::move(file)) {}

 private:
  base::File file_;
};

class Store final {
 public:
  /// Creates nothing until something is to be kept.
  explicit Store(std::filesystem::path folder) : folder_(std::move(folder)) {}

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// Where fetch is to put the release of that info-hash.
  [[nodiscard]] std::filesystem::path release_folder(const std::string& infohash) const;

  /// A model made from the same source. A source without files matches by identity and quant alone.
  [[nodiscard]] std::optional<StoredModel> find(const ModelSource& source) const;
  /// Everything that it holds, sorted by file name. A record that cannot be read is left out with a warning.
  [[nodiscard]] std::vector<StoredModel> list(Console& console) const;

  /// Only one process at a time makes a model of that name and quant; waits for the other one, until
  /// `stop` asks to end: Error{interrupted}.
  [[nodiscard]] StoreLock lock(const std::string& name, const std::string& quant, Console& console,
                               const std::stop_token& stop);

  /// Where a new model is to be written before its root is known.
  [[nodiscard]] std::filesystem::path unfinished_path(const ModelSource& source);
  /// Gives the model written at `unfinished` its name and record.
  StoredModel keep(const std::filesystem::path& unfinished, const ModelSource& source,
                   const base::Sha256& root);

 private:
  std::filesystem::path folder_;
};

}  // namespace sluice::cli
