// Lists the store's folders and removes what they hold. Every list is read anew, because other processes
// change the store. A removal takes the locks of the processes that could use the files, and holds them until
// the files are gone. Nothing is removed by a path that leads through a symbolic link: a link is removed
// itself, and what it points to stays.

#include "library/store_items.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file_lock.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

constexpr const char* kQuants[] = {"q4", "q8", "bf16"};

/// The space that a file or a folder with its content takes. Links count as what they are.
std::uint64_t disk_bytes(const fs::path& path) {
  constexpr std::uint64_t kStatBlockBytes = 512;  // POSIX: the unit of st_blocks
  std::uint64_t bytes = 0;
  std::set<std::pair<dev_t, ino_t>> counted;  // two names of one file share its space
  const auto add = [&](const fs::path& file) {
    struct stat status {};
    if (::lstat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
    if (!counted.emplace(status.st_dev, status.st_ino).second) return;
    // An interrupted download has holes, and a whole file has a last block that is not full.
    bytes += std::min(static_cast<std::uint64_t>(status.st_size),
                      static_cast<std::uint64_t>(status.st_blocks) * kStatBlockBytes);
  };
  add(path);
  std::error_code unreadable;
  if (fs::is_symlink(path, unreadable) || !fs::is_directory(path, unreadable)) return bytes;
  for (const auto& item :
       fs::recursive_directory_iterator(path, fs::directory_options::skip_permission_denied, unreadable))
    add(item.path());
  return bytes;
}

StoreItem model_item(const Store& store, const StoredModel& model) {
  StoreItem item;
  item.kind = StoreItem::Kind::model;
  item.name = model.name_with_quant();
  item.plain_name = model.name();
  item.quant = model.source.quant;
  item.root_sha256 = model.root_sha256;
  item.origin = model.source.identity;
  item.path = model.path;
  item.bytes = model.bytes;
  item.problem = model.problem;
  auto record = model.path;
  record.replace_extension(".json");
  // The record goes first: a model without a record is no model for a run that comes in between.
  item.files = {record, model.path};
  if (model.problem.empty()) {
    item.locks = {store.lock_path(model.source.name, model.source.quant)};
  } else {
    // The name ends in "-QUANT-ROOT12", and the lock is that of NAME-QUANT.
    const std::string stem = model.full_name();
    item.locks = {store.folder() / "locks" / (stem.substr(0, stem.rfind('-')) + ".lock")};
  }
  return item;
}

/// A release is used by its fetch, and by conversions of it, whose locks have its name.
std::vector<fs::path> locks_of(const Store& store, const std::string& name, const fs::path& folder) {
  std::vector<fs::path> locks;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder / ".sluice", absent))
    if (entry.path().extension() == ".lock") locks.push_back(entry.path());
  for (const char* quant : kQuants) locks.push_back(store.lock_path(name, quant));
  return locks;
}

StoreItem release_item(const Store& store, const ReleasePlace& place) {
  StoreItem item;
  item.kind = StoreItem::Kind::release;
  item.name = place.name;
  item.infohash = place.key();
  item.path = place.path();
  item.in_store = place.folder == store.release_folder(place.key());
  item.complete = place.complete;
  item.files = {store.place_record(place.key())};
  if (item.in_store) item.files.push_back(place.folder);
  item.bytes = disk_bytes(item.in_store ? place.folder : place.path());
  item.locks = locks_of(store, place.name, place.folder);
  return item;
}

/// A folder in releases/ without a record. Its torrent's name is that of the entry beside .sluice.
StoreItem unrecorded_release(const Store& store, const fs::path& folder) {
  StoreItem item;
  item.kind = StoreItem::Kind::release;
  item.infohash = folder.filename().string();
  item.name = item.infohash;
  item.path = folder;
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
    if (entry.path().filename() == ".sluice") continue;
    item.name = entry.path().filename().string();
    item.path = entry.path();
  }
  item.files = {folder};
  item.bytes = disk_bytes(folder);
  item.locks = locks_of(store, item.name, folder);
  return item;
}

std::vector<StoreItem> list_release_items(const Store& store, Observer& observer,
                                          std::vector<StoreItem>& leftovers) {
  std::vector<StoreItem> items;
  std::set<std::string> recorded;
  std::error_code absent;
  for (const ReleasePlace& place : store.list_places(observer)) {
    StoreItem item = release_item(store, place);
    recorded.insert(place.key());
    if (!fs::exists(fs::symlink_status(item.path, absent)) && !item.in_store) {
      item.kind = StoreItem::Kind::leftover;
      item.path = item.files.front();
      item.name = item.path.filename().string();
      item.problem = "the release is not at " + place.path().string();
      leftovers.push_back(std::move(item));
    } else {
      items.push_back(std::move(item));
    }
  }
  for (const auto& entry : fs::directory_iterator(store.folder() / "releases", absent)) {
    const std::string name = entry.path().filename().string();
    if (fs::is_directory(entry.symlink_status()) && !name.starts_with('.') && !recorded.contains(name))
      items.push_back(unrecorded_release(store, entry.path()));
  }
  return items;
}

/// "NAME-QUANT" of the files that the conversion to "NAME-QUANT.unfinished" writes, or nothing.
std::optional<std::string> unfinished_stem(std::string name) {
  if (name.starts_with('.')) name.erase(0, 1);
  const auto mark = name.find(".unfinished");
  return mark == std::string::npos || mark == 0 ? std::nullopt : std::optional(name.substr(0, mark));
}

void add_model_leftovers(const Store& store, std::vector<StoreItem>& leftovers) {
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(store.folder() / "models", absent)) {
    const fs::path& path = entry.path();
    StoreItem item;
    item.kind = StoreItem::Kind::leftover;
    item.name = path.filename().string();
    item.path = path;
    item.files = {path};
    if (const auto stem = unfinished_stem(item.name)) {
      item.problem = "an interrupted conversion left it";
      item.locks = {store.folder() / "locks" / (*stem + ".lock")};
    } else if (auto model = path; path.extension() == ".json" && !item.name.starts_with('.') &&
                                  !fs::exists(model.replace_extension(".sluice"), absent)) {
      item.problem = "its model was deleted";
    } else {
      continue;
    }
    item.bytes = disk_bytes(path);
    leftovers.push_back(std::move(item));
  }
}

bool is_locked(const fs::path& lock) {
  std::error_code absent;
  if (!fs::is_regular_file(fs::symlink_status(lock, absent))) return false;
  return !base::try_lock(base::File::open_read(lock));
}

/// Locks all that are there; Error{usage} when another process has one of them.
std::vector<base::File> take_locks(const StoreItem& item) {
  std::vector<base::File> held;
  std::error_code absent;
  for (const fs::path& lock : item.locks) {
    if (!fs::is_regular_file(fs::symlink_status(lock, absent))) continue;
    auto file = base::File::open_read(lock);
    if (!base::try_lock(file))
      throw base::Error(base::ErrorKind::usage,
                        item.name + ": is in use by another process, so it is not removed");
    held.push_back(std::move(file));
  }
  return held;
}

/// The folders between the store and `path` must not be links to another place.
void require_inside(const Store& store, const fs::path& path) {
  const auto root = fs::canonical(store.folder());
  const auto parent = fs::canonical(path.parent_path());
  if (std::ranges::mismatch(root, parent).in1 == root.end()) return;
  throw base::Error(base::ErrorKind::usage, path.string() + ": leads out of the model store, to " +
                                                parent.string() + ", so it is not removed");
}

bool is_root_prefix(const std::string& root, std::string_view digits) {
  return !digits.empty() && root.starts_with(digits);
}

bool means(const std::string& name, const std::string& with_quant, const std::string& root,
           std::string_view text) {
  constexpr std::size_t kRootDigitsMin = 6;
  if (text == name || text == with_quant) return true;
  if (text.starts_with(with_quant + "-") && is_root_prefix(root, text.substr(with_quant.size() + 1)))
    return true;
  return text.size() >= kRootDigitsMin && is_root_prefix(root, text);
}

std::string_view without_extension(std::string_view name) {
  if (name.ends_with(".sluice")) name.remove_suffix(std::string_view(".sluice").size());
  return name;
}

}  // namespace

std::string_view to_string(StoreItem::Kind kind) {
  switch (kind) {
    case StoreItem::Kind::model: return "model";
    case StoreItem::Kind::release: return "release";
    case StoreItem::Kind::leftover: return "leftover";
  }
  return "";
}

std::vector<StoreItem> list_items(const Store& store, Observer& observer) {
  std::vector<StoreItem> items;
  for (const StoredModel& model : store.list()) items.push_back(model_item(store, model));
  // Two models of one NAME-QUANT can only be told apart by their roots.
  for (std::size_t i = 0; i < items.size(); ++i) {
    const bool shared = std::ranges::count(items, items[i].name, &StoreItem::name) > 1;
    if (shared) {
      const std::string name = items[i].name;
      for (StoreItem& item : items)
        if (item.name == name) item.name = item.path.stem().string();
    }
  }
  std::vector<StoreItem> leftovers;
  for (StoreItem& release : list_release_items(store, observer, leftovers)) {
    release.converted = std::ranges::find(items, release.infohash, &StoreItem::origin) != items.end();
    items.push_back(std::move(release));
  }
  add_model_leftovers(store, leftovers);
  std::ranges::sort(leftovers, {}, &StoreItem::name);
  std::ranges::move(leftovers, std::back_inserter(items));
  return items;
}

std::vector<StoredModel> find_models(const std::vector<StoredModel>& models, std::string_view name) {
  std::vector<StoredModel> found;
  for (const StoredModel& model : models) {
    const bool named = model.source.name == name && model.problem.empty();
    if (named || means(model.name(), model.name_with_quant(), model.root_sha256, without_extension(name)) ||
        model.full_name() == without_extension(name))
      found.push_back(model);
  }
  return found;
}

std::vector<StoreItem> find_items(const std::vector<StoreItem>& items, std::string_view name) {
  std::vector<StoreItem> found;
  for (const StoreItem& item : items) {
    bool same = item.name == name || item.path.filename() == name;
    if (item.kind == StoreItem::Kind::release) same = same || item.infohash == name;
    if (item.kind == StoreItem::Kind::model && item.problem.empty()) {
      const std::string stem = item.path.stem().string();  // NAME-QUANT-ROOT12
      const std::string with_quant = stem.substr(0, stem.rfind('-'));
      const std::string plain = with_quant.substr(0, with_quant.size() - item.quant.size() - 1);
      same = same || means(plain, with_quant, item.root_sha256, without_extension(name));
    }
    if (same) found.push_back(item);
  }
  return found;
}

bool is_abandoned(const StoreItem& item) {
  switch (item.kind) {
    case StoreItem::Kind::leftover: return true;
    case StoreItem::Kind::release: return item.in_store && !item.complete;
    case StoreItem::Kind::model: {
      // A file without a record may be one that the user put there.
      auto record = item.path;
      return !item.problem.empty() && fs::exists(record.replace_extension(".json"));
    }
  }
  return false;
}

bool is_in_use(const StoreItem& item) { return std::ranges::any_of(item.locks, is_locked); }

std::uint64_t remove_item(const Store& store, const StoreItem& item) {
  const auto held = take_locks(item);
  std::uint64_t freed_bytes = 0;
  std::error_code absent;
  for (const fs::path& file : item.files) {
    if (!fs::exists(fs::symlink_status(file, absent))) continue;
    require_inside(store, file);
    freed_bytes += disk_bytes(file);
    fs::remove_all(file);  // removes links and does not follow them
  }
  return freed_bytes;
}

}  // namespace sluice::library
