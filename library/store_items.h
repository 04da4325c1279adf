#pragma once
// What the model store holds, for people who want to see it, to use it by name and to free its space. Only
// files in the store are ever removed, and no symbolic link is followed out of it.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "library/observer.h"
#include "library/store.h"

namespace sluice::library {

struct StoreItem {
  enum class Kind : std::uint8_t {
    model,     ///< a converted model
    release,   ///< a fetched release, in the store or elsewhere
    leftover,  ///< what an interrupted conversion left, or a record whose file is gone
  };
  Kind kind = Kind::model;
  std::string name;                          ///< as `models` prints it and `models rm` takes it
  std::string plain_name;                    ///< without the quantization of a model
  std::string quant;                         ///< of a model
  std::string root_sha256;                   ///< of a model
  std::string origin;                        ///< of a model: info-hash or path of its release
  std::string infohash;                      ///< of a release
  std::filesystem::path path;                ///< the .sluice file, the release or the leftover
  std::uint64_t bytes = 0;                   ///< space on the disk
  bool in_store = true;                      ///< false for a release in a folder of the user
  bool complete = true;                      ///< false for a download that was interrupted
  bool converted = false;                    ///< of a release: the store has a model that was made of it
  std::string problem;                       ///< why a model cannot be found by its source; empty for none
  std::vector<std::filesystem::path> files;  ///< what is removed, in this order; folders with their content
  std::vector<std::filesystem::path> locks;  ///< files that are locked while a process makes or fetches it
};

[[nodiscard]] std::string_view to_string(StoreItem::Kind kind);

/// Models, then releases, then leftovers, each sorted by name. Damaged records of releases are warnings.
[[nodiscard]] std::vector<StoreItem> list_items(const Store& store, Observer& observer);

/// The models that a name means: NAME, NAME-QUANT, NAME-QUANT-ROOT with any number of the root's digits, or
/// at least 6 of these digits alone.
[[nodiscard]] std::vector<StoredModel> find_models(const std::vector<StoredModel>& models,
                                                   std::string_view name);
/// The items that a name means: models as above, releases by name, torrent name or info-hash.
[[nodiscard]] std::vector<StoreItem> find_items(const std::vector<StoreItem>& items, std::string_view name);

/// True for what no run will use: leftovers, interrupted downloads in the store, and models whose record
/// cannot be read.
[[nodiscard]] bool is_abandoned(const StoreItem& item);

/// True when a process makes or fetches it now.
[[nodiscard]] bool is_in_use(const StoreItem& item);

/// Removes the item's files and returns the bytes that this freed. Error{usage} when the item is in use or
/// its path leads out of the store.
std::uint64_t remove_item(const Store& store, const StoreItem& item);

}  // namespace sluice::library
