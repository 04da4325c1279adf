// Decides for each file that exists under a release's name whether a fetch may write to it. The evidence are
// the journals in .sluice, which say which torrent's fetch has written a file, and the torrent's hashes:
//
//   written by a fetch of this torrent and unchanged since    it goes on
//   empty, all zeros, or one of its pieces verifies           a partial download or a damaged copy: completed
//   written by a fetch of another torrent, or has other names (hard links)
//                                                             used only if every piece of it verifies
//   anything else, or longer than the release's file          not ours: refused
//
// Everything runs in the caller's thread, before a worker starts. Nothing is written unless the user asked to
// overwrite. docs/decisions/0019 tells why the rules are as they are.

#include "fetch/existing_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/directory.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/merkle.h"
#include "base/text.h"
#include "base/unicode.h"
#include "fetch/disk/journal.h"
#include "fetch/disk/piece_layers.h"
#include "fetch/disk/piece_store.h"
#include "fetch/disk/release_files.h"
#include "fetch/disk/resume.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;
using format::ReleaseLayout;
using FileId = std::pair<dev_t, ino_t>;

constexpr std::size_t kReadBytes = 1u << 20;

std::vector<fs::path> paths_of(const ReleaseLayout& layout) {
  std::vector<fs::path> paths;
  for (const format::ReleaseFile& file : layout.files)
    paths.push_back(layout.single_file ? fs::path(file.path) : layout.name / fs::path(file.path));
  return paths;
}

std::string infohash_of(const ReleaseLayout& layout) {
  return layout.infohash_v1 ? base::to_hex(*layout.infohash_v1) : base::to_hex(layout.infohash_v2.value());
}

bool is_same_torrent(const ReleaseLayout& a, const ReleaseLayout& b) {
  return (a.infohash_v1 && a.infohash_v1 == b.infohash_v1) ||
         (a.infohash_v2 && a.infohash_v2 == b.infohash_v2);
}

/// Reads a journal into `state`; false when the file is not this torrent's journal. Writes nothing, unlike
/// Journal, which would start a new one.
bool load_journal(Storage& storage, const fs::path& path, const ReleaseLayout& layout, JournalState& state) {
  if (!storage.find(path)) return false;
  const std::vector<std::byte> header = journal_header(layout);
  std::vector<std::byte> found(header.size());
  if (storage.open_read(path)->read_at(0, found) != header.size() || found != header) return false;
  const Journal journal(storage, path, layout, [&](const JournalRecord& record) { state.take(record); });
  return true;
}

/// A file of another torrent in the same folder.
struct Claim {
  std::string name;  ///< of the torrent
  std::string infohash;
  fs::path journal;
  bool same_torrent = false;  ///< fetched by its other info-hash
};

/// The releases that other torrents' fetches have written into the folder.
class Claims {
 public:
  Claims(const ExistingFilesRequest& request, Storage& storage, bool files_exist)
      : request_(request), storage_(storage) {
    for (const fs::path& path : paths_of(request.layout)) folded_.insert(fold(path));
    std::error_code absent;
    std::vector<fs::path> torrents;
    for (const auto& item : fs::directory_iterator(request.folder.torrent_path().parent_path(), absent))
      if (item.path().extension() == ".torrent") torrents.push_back(item.path());
    std::ranges::sort(torrents);
    for (const fs::path& torrent : torrents)
      if (torrent != request.folder.torrent_path()) take(torrent, files_exist);
  }

  /// The claim on a file on the disk. Files are told apart by their number in the file system, because names
  /// that differ may lead to one file (case, normal forms, hard links).
  [[nodiscard]] const Claim* find(const FileId& id) const {
    const auto found = claims_.find(id);
    return found == claims_.end() ? nullptr : &found->second;
  }

 private:
  static std::string fold(const fs::path& path) {
    return base::fold_case(path.string()).value_or(path.string());
  }

  void take(const fs::path& torrent, bool files_exist) {
    const fs::path journal = fs::path(torrent).replace_extension(".journal");
    const bool active = is_active(fs::path(torrent).replace_extension(".lock"));
    std::error_code absent;
    if (!active && !(files_exist && fs::exists(journal, absent))) return;
    try {
      const ReleaseLayout layout = parse_torrent_file(base::read_text_file(torrent, kTorrentBytesMax),
                                                      torrent.string(), request_.limits)
                                       .layout;
      if (active) refuse_overlap(layout);
      take_files(layout, journal);
    } catch (const Error& error) {
      // A torrent that cannot be read says nothing about whose files lie here.
      if (error.kind() != ErrorKind::malformed) throw;
    }
  }

  /// True while another process fetches this torrent into the folder.
  static bool is_active(const fs::path& lock) {
    std::error_code absent;
    if (!fs::is_regular_file(lock, absent)) return false;
    return !base::try_lock(base::File::open_read(lock));
  }

  void refuse_overlap(const ReleaseLayout& other) const {
    for (const fs::path& path : paths_of(other))
      if (folded_.contains(fold(path)) && !is_same_torrent(other, request_.layout))
        throw Error(ErrorKind::usage, (request_.folder.path() / path).string() +
                                          ": another process is fetching the torrent " + infohash_of(other) +
                                          " to here, and " + infohash_of(request_.layout) +
                                          " has a file of this name; fetch it to another folder (-o)");
  }

  void take_files(const ReleaseLayout& layout, const fs::path& journal) {
    const PieceMap map(layout);
    const PieceVerifier verifier(layout, map);
    JournalState state(map, verifier, layout.files.size());
    if (!load_journal(storage_, journal.lexically_relative(request_.folder.path()), layout, state)) return;
    const Claim claim{layout.name, infohash_of(layout), journal, is_same_torrent(layout, request_.layout)};
    const std::vector<fs::path> paths = paths_of(layout);
    for (std::size_t i = 0; i < paths.size(); ++i) {
      struct stat info {};
      if (layout.files[i].pad || state.file(i).state == JournalState::File::State::unknown) continue;
      if (::lstat((request_.folder.path() / paths[i]).c_str(), &info) != 0) continue;
      claims_.emplace(FileId(info.st_dev, info.st_ino), claim);
    }
  }

  const ExistingFilesRequest& request_;
  Storage& storage_;
  std::set<std::string> folded_;
  std::map<FileId, Claim> claims_;
};

class ExistingFiles {
 public:
  ExistingFiles(const ExistingFilesRequest& request, FetchObserver& observer, const std::stop_token& stop)
      : request_(request),
        layout_(request.layout),
        observer_(observer),
        stop_(stop),
        map_(layout_),
        verifier_(layout_, map_),
        storage_(open_storage(request.folder.path())),
        files_(*storage_, map_, paths_of(layout_)),
        store_(files_, map_, verifier_, nullptr, {.thread_count = 0, .on_failure = {}}),
        journal_(map_, verifier_, layout_.files.size()),
        pieces_(map_.piece_count()) {
    static_cast<void>(load_journal(*storage_, relative(request.folder.journal_path()), layout_, journal_));
  }

  std::vector<std::size_t> run() {
    const std::vector<Entry> entries = find_entries();
    const Claims claims(request_, *storage_, !entries.empty());
    for (const Entry& entry : entries) total_bytes_ += entry.size_bytes;
    for (const Entry& entry : entries) {
      const std::string problem = examine(entry, claims);
      done_bytes_ += entry.size_bytes;
      if (problem.empty()) continue;
      if (request_.wanted[entry.index])
        refused_.push_back({entry, problem});
      else
        apart_.push_back(entry.index);
    }
    if (!refused_.empty()) settle(claims);
    return std::move(apart_);
  }

 private:
  struct Entry {
    std::size_t index = 0;  // into the layout's files
    FileId id;
    std::uint64_t size_bytes = 0;
    bool has_other_names = false;
  };
  struct Refused {
    Entry entry;
    std::string problem;  // a predicate
  };

  [[nodiscard]] fs::path relative(const fs::path& path) const {
    return path.lexically_relative(request_.folder.path());
  }
  [[nodiscard]] fs::path path_of(std::size_t index) const {
    return request_.folder.path() / files_.path(index);
  }

  /// Files on the disk to which a fetch could write: wanted ones, and those that share a piece with one.
  [[nodiscard]] std::vector<Entry> find_entries() const {
    std::vector<bool> touched(layout_.files.size(), false);
    for (std::size_t i = 0; i < touched.size(); ++i) {
      if (!request_.wanted[i]) continue;
      touched[i] = true;
      const auto [first, last] = map_.pieces_of(i);
      if (first == last) continue;
      for (const std::uint64_t piece : {first, last - 1})
        for (const PieceSlice& slice : map_.slices(piece)) touched[slice.file_index] = true;
    }
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < touched.size(); ++i) {
      struct stat info {};
      if (!touched[i] || layout_.files[i].pad || ::lstat(path_of(i).c_str(), &info) != 0) continue;
      if (!S_ISREG(info.st_mode)) continue;  // OutputFolder::check_paths() has refused it
      entries.push_back(
          {i, FileId(info.st_dev, info.st_ino), static_cast<std::uint64_t>(info.st_size), info.st_nlink > 1});
    }
    return entries;
  }

  /// Why the fetch must not write to the file; empty when it may, or when it will not.
  std::string examine(const Entry& entry, const Claims& claims) {
    const std::uint64_t length_bytes = layout_.files[entry.index].length_bytes;
    const Claim* const claim = claims.find(entry.id);
    const bool own = is_own(entry) || (claim != nullptr && claim->same_torrent);
    if (own && is_complete(entry)) return {};
    if (claim != nullptr && !claim->same_torrent && !all_match(entry))
      return "belongs to the release '" + base::to_printable(claim->name) + "' of torrent " +
             claim->infohash + ", and is not the file of torrent " + infohash_of(layout_);
    if (entry.size_bytes > length_bytes)
      return "is longer than the release's file (" + std::to_string(entry.size_bytes) + " bytes, not " +
             std::to_string(length_bytes) + ")";
    if (entry.has_other_names && !all_match(entry))
      return "has other names (hard links), whose content would change with it";
    if (own || is_blank(entry) || any_matches(entry)) return {};
    return "is there and nothing of it is the file of torrent " + infohash_of(layout_);
  }

  /// True when a fetch of this torrent has written the file, and nobody has changed it since as far as its
  /// size and time tell.
  [[nodiscard]] bool is_own(const Entry& entry) const {
    // The journal speaks of the parts while the file was not wanted.
    std::error_code absent;
    if (fs::exists(request_.folder.parts_path() / std::to_string(entry.index), absent)) return false;
    const JournalState::File& known = journal_.file(entry.index);
    if (known.state == JournalState::File::State::opened) return true;
    return known.state == JournalState::File::State::closed && files_.find(entry.index) == known.stamp;
  }

  [[nodiscard]] bool is_complete(const Entry& entry) const {
    if (entry.size_bytes != layout_.files[entry.index].length_bytes) return false;
    const auto [first, last] = map_.pieces_of(entry.index);
    for (std::uint64_t piece = first; piece < last; ++piece)
      if (!journal_.verified(piece)) return false;
    return true;
  }

  bool any_matches(const Entry& entry) {
    const auto [first, last] = map_.pieces_of(entry.index);
    for (std::uint64_t piece = first; piece < last; ++piece)
      if (matches(piece)) return true;
    return root_matches(entry);
  }

  bool all_match(const Entry& entry) {
    if (entry.size_bytes != layout_.files[entry.index].length_bytes) return false;
    const auto [first, last] = map_.pieces_of(entry.index);
    for (std::uint64_t piece = first; piece < last; ++piece)
      if (!matches(piece)) return root_matches(entry);
    return true;
  }

  /// A v2 magnet link brings no hashes of pieces, but each file's root.
  bool root_matches(const Entry& entry) {
    const format::ReleaseFile& file = layout_.files[entry.index];
    if (!lacks_layer(layout_, file) || entry.size_bytes != file.length_bytes) return false;
    std::vector<base::Sha256> layer;
    const auto [first, last] = map_.pieces_of(entry.index);
    for (std::uint64_t piece = first; piece < last; ++piece) {
      throw_if_stopped();
      const auto digest = store_.digest_on_disk(piece);
      if (!digest || !digest->node) return false;
      layer.push_back(*digest->node);
    }
    const auto height =
        static_cast<unsigned>(std::countr_zero(layout_.piece_bytes / base::kMerkleBlockBytes));
    return base::merkle_root(layer, height) == *file.root;
  }

  void throw_if_stopped() const {
    if (stop_.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted; nothing has been fetched");
  }

  /// Hashes each piece once, because many small files can share one.
  bool matches(std::uint64_t piece) {
    throw_if_stopped();
    if (!pieces_[piece]) {
      const auto digest = store_.digest_on_disk(piece);
      pieces_[piece] = digest && verifier_.verify(piece, *digest) == MatchResult::match;
      report(map_.piece_bytes(piece));
    }
    return *pieces_[piece];
  }

  /// True for a file of zeros alone: another client has reserved the space, and nothing has arrived yet.
  bool is_blank(const Entry& entry) {
    const auto file = storage_->open_read(files_.path(entry.index));
    std::vector<std::byte> buffer(kReadBytes);
    for (std::uint64_t at = 0; at < entry.size_bytes; at += buffer.size()) {
      throw_if_stopped();
      const base::Bytes got = base::Bytes(buffer).first(file->read_at(at, buffer));
      if (std::ranges::any_of(got, [](std::byte one) { return one != std::byte{0}; })) return false;
    }
    return true;
  }

  void report(std::uint64_t piece_bytes) {
    read_bytes_ += piece_bytes;
    observer_.on_status({.phase = "checking",
                         .done_bytes = std::min(std::max(done_bytes_, read_bytes_), total_bytes_),
                         .total_bytes = total_bytes_,
                         .availability = std::nullopt,
                         .stall_reason = {}});
  }

  // ---- The decision ----

  void settle(const Claims& claims) {
    if (!request_.overwrite) {
      // A conflict of two torrents explains the others.
      const auto claimed = [&](const Refused& refused) { return claims.find(refused.entry.id) != nullptr; };
      auto shown = std::ranges::find_if(refused_, claimed);
      if (shown == refused_.end()) shown = refused_.begin();
      const std::size_t others = refused_.size() - 1;
      throw Error(ErrorKind::usage,
                  path_of(shown->entry.index).string() + ": " + shown->problem +
                      (others > 0 ? " (" + base::to_counted(others, "more file") + " in the way)" : "") +
                      "; nothing was written. Fetch to another folder (-o DIR), or replace with "
                      "--overwrite");
    }
    for (const Refused& refused : refused_) {
      const Entry& entry = refused.entry;
      const fs::path path = path_of(entry.index);
      observer_.on_warning(path.string() + ": " + refused.problem + "; it is replaced (--overwrite)");
      if (const Claim* const claim = claims.find(entry.id); claim != nullptr && !claim->same_torrent)
        fs::remove(claim->journal);  // that fetch no longer owns what lies here
      // Pieces that verify are kept. Otherwise a new file is made, so that other names keep the old content.
      if (entry.has_other_names || !any_matches(entry)) fs::remove(path);
    }
  }

  const ExistingFilesRequest& request_;
  const ReleaseLayout& layout_;
  FetchObserver& observer_;
  const std::stop_token& stop_;
  PieceMap map_;
  PieceVerifier verifier_;
  std::unique_ptr<Storage> storage_;
  ReleaseFiles files_;
  PieceStore store_;  // reads only
  JournalState journal_;
  std::vector<std::optional<bool>> pieces_;  // whether a piece on the disk matches; empty: not hashed yet
  std::vector<Refused> refused_;
  std::vector<std::size_t> apart_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t read_bytes_ = 0;
};

}  // namespace

std::vector<std::size_t> check_existing_files(const ExistingFilesRequest& request, FetchObserver& observer,
                                              const std::stop_token& stop) {
  return ExistingFiles(request, observer, stop).run();
}

}  // namespace sluice::fetch
