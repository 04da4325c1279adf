// Repairs a release in place. A worker fetches the damaged pieces into a staging folder, with a journal, like
// any release; the correct blocks of these pieces are copied there first. Only verified pieces are applied,
// and only the bytes that differ are written. docs/decisions/0009 compares this with fetching in place.
//
// Invariant: a kill at any instant loses no correct byte. The verified pieces stay in the staging folder
// until all of them are applied, so the same command applies them again.
//
// Everything here runs in the caller's thread, except the two committers, which have threads of their own.

#include <algorithm>
#include <set>
#include <utility>

#include "base/byte_range.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "fetch/disk/journal.h"
#include "fetch/disk/piece_committer.h"
#include "fetch/disk/piece_store.h"
#include "fetch/disk/release_files.h"
#include "fetch/disk/resume.h"
#include "fetch/fetch.h"
#include "fetch/job/memory_budget.h"
#include "fetch/job_builder.h"
#include "fetch/output_folder.h"
#include "fetch/supervisor.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kApplyBytes = 64 * kBlockBytes;  // one read: 1 MiB

/// The damaged pieces with a flag per block: true when the block is right.
using DamagedPieces = std::map<std::uint64_t, std::vector<bool>>;

/// Translates damaged byte ranges of files to damaged blocks of pieces, because pieces are what the torrent
/// can verify and blocks are what peers send.
class DamageMap {
 public:
  DamageMap(const format::ReleaseLayout& layout, const PieceMap& map) : layout_(layout), map_(map) {}

  DamagedPieces pieces_of(const std::vector<DamagedFile>& damage) {
    for (const DamagedFile& file : damage) {
      const auto found = std::ranges::find_if(
          layout_.files, [&](const auto& one) { return !one.pad && one.path == file.path; });
      if (found == layout_.files.end())
        throw Error(ErrorKind::usage, file.path + ": is not a file of the torrent '" + layout_.name + "'");
      const auto index = static_cast<std::size_t>(found - layout_.files.begin());
      for (const base::ByteRange& range : file.ranges) mark(index, range);
    }
    return std::move(pieces_);
  }

 private:
  void mark(std::size_t file, const base::ByteRange& range) {
    const std::uint64_t end_bytes = std::min(range.end_bytes(), layout_.files[file].length_bytes);
    const auto [first, last] = map_.pieces_of(file);
    for (std::uint64_t piece = first; piece < last; ++piece)
      for (const PieceSlice& slice : map_.slices(piece))
        if (slice.file_index == file) mark(piece, slice, range.offset_bytes, end_bytes);
  }

  void mark(std::uint64_t piece, const PieceSlice& slice, std::uint64_t start_bytes,
            std::uint64_t end_bytes) {
    const std::uint64_t start = std::max(start_bytes, slice.file_offset_bytes);
    const std::uint64_t end = std::min(end_bytes, slice.file_offset_bytes + slice.length_bytes);
    if (start >= end) return;
    const std::uint64_t count = base::divide_up(map_.piece_bytes(piece), kBlockBytes);
    // A block counts as damaged when any byte of it is, since a block is the least that a peer sends.
    std::vector<bool>& blocks = pieces_.try_emplace(piece, count, true).first->second;
    const std::uint64_t shift =
        slice.piece_offset_bytes - slice.file_offset_bytes;  // may wrap around, and the sum wraps back
    const std::uint64_t last = base::divide_up(end + shift, kBlockBytes);
    for (std::uint64_t block = (start + shift) / kBlockBytes; block < last; ++block) blocks[block] = false;
  }

  const format::ReleaseLayout& layout_;
  const PieceMap& map_;
  DamagedPieces pieces_;
};

/// Joins neighbouring pieces to half-open ranges, since a job is one line and can name millions of pieces.
std::vector<PieceMap::Range> to_ranges(const DamagedPieces& pieces) {
  std::vector<PieceMap::Range> ranges;
  for (const auto& [piece, blocks] : pieces) {
    if (ranges.empty() || ranges.back().last != piece) ranges.push_back({piece, piece});
    ++ranges.back().last;
  }
  return ranges;
}

std::vector<fs::path> paths_below(const fs::path& folder, const format::ReleaseLayout& layout) {
  std::vector<fs::path> paths;
  for (const format::ReleaseFile& file : layout.files) paths.push_back(folder / fs::path(file.path));
  return paths;
}

/// The folder of the files in the output folder of a fetch.
fs::path release_below(const format::ReleaseLayout& layout) {
  return layout.single_file ? fs::path() : fs::path(layout.name);
}

class Repair {
 public:
  Repair(const RepairRequest& request, FetchObserver& observer, const std::stop_token& stop)
      : request_(request),
        observer_(observer),
        stop_(stop),
        jobs_(request.fetch, observer),
        torrent_(load(request.fetch)),
        map_(torrent_.layout),
        verifier_(torrent_.layout, map_),
        own_(request.fetch.output_folder, torrent_key(torrent_.layout)),
        staging_(own_.repair_path(), torrent_key(torrent_.layout)),
        storage_(open_storage(own_.path())),
        target_files_(*storage_, map_, paths_below(target_below(), torrent_.layout)),
        staging_files_(*storage_, map_, paths_below(staging_below(), torrent_.layout)),
        pieces_(DamageMap(torrent_.layout, map_).pieces_of(request.damage)) {}

  RepairResult run() {
    RepairResult result;
    if (!pieces_.empty()) {
      check_space();
      copy_right_blocks();
      result.downloaded_bytes = fetch_pieces();
    }
    // Also without damaged pieces: a file can be too long, or empty and missing.
    result.written_bytes = apply();
    // The last step of all. Until here the folder is the redo log of the repair.
    fs::remove_all(own_.repair_path());
    return result;
  }

 private:
  static Torrent load(const FetchRequest& request) {
    return parse_torrent_file(base::read_text_file(request.source, kTorrentBytesMax), request.source,
                              torrent_limits(request.memory_bytes));
  }

  [[nodiscard]] fs::path target_below() const {
    const fs::path below = fs::absolute(request_.folder).lexically_normal().lexically_relative(own_.path());
    return below == "." ? fs::path() : below;
  }
  [[nodiscard]] fs::path staging_below() const {
    return own_.repair_path().lexically_relative(own_.path()) / release_below(torrent_.layout);
  }

  /// The staging folder has the whole layout, but its files are sparse, so only the damaged pieces take
  /// space.
  void check_space() const {
    const std::vector<bool> all(torrent_.layout.files.size(), true);
    Preflight preflight = staging_.preflight(torrent_.layout, all);
    std::uint64_t needed_bytes = 0;
    for (const auto& [piece, blocks] : pieces_) needed_bytes += map_.piece_bytes(piece);
    preflight.wanted_bytes = std::max(needed_bytes, preflight.present_bytes);
    staging_.check_space(preflight);
  }

  // ---- Fetching ----

  /// The journal of the staging folder.
  [[nodiscard]] fs::path journal_below() const {
    return staging_.journal_path().lexically_relative(own_.path());
  }

  /// Copies correct blocks to the staging folder, so that only the other blocks are requested from peers. The
  /// copies are verified when the piece is complete.
  void copy_right_blocks() {
    JournalState state(map_, verifier_, torrent_.layout.files.size());
    Journal journal(*storage_, journal_below(), torrent_.layout,
                    [&](const JournalRecord& record) { state.take(record); });
    std::optional<Error> failure;
    PieceCommitter committer(
        staging_files_, map_, journal,
        {.on_durable = [](auto) {}, .on_failure = [&](const Error& error) { failure = error; }});
    for (const auto& [piece, right] : pieces_) {
      if (stop_.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted");
      // An interrupted repair has these blocks or the whole piece already.
      if (state.verified(piece) || state.partial().contains(piece)) continue;
      if (std::ranges::find(right, true) == right.end()) continue;
      // Durable piece by piece, so that an interrupted repair does not copy again.
      committer.open_files(files_of(piece));
      committer.add_partial({{piece, copy_blocks(piece, right)}});
      committer.flush();
      if (failure) throw *failure;
    }
  }

  [[nodiscard]] std::vector<std::size_t> files_of(std::uint64_t piece) const {
    std::vector<std::size_t> files;
    for (const PieceSlice& slice : map_.slices(piece)) files.push_back(slice.file_index);
    return files;
  }

  /// Returns a flag per block: whether it could be copied.
  std::vector<bool> copy_blocks(std::uint64_t piece, const std::vector<bool>& right) {
    std::vector<bool> copied(right.size(), false);
    std::vector<std::byte> bytes;
    for (std::size_t block = 0; block < right.size(); ++block) {
      if (!right[block]) continue;
      const std::uint64_t offset = block * kBlockBytes;
      bytes.resize(std::min(kBlockBytes, map_.piece_bytes(piece) - offset));
      if (!target_files_.read(piece, offset, bytes)) continue;
      staging_files_.write(piece, offset, bytes);
      copied[block] = true;
    }
    return copied;
  }

  std::uint64_t fetch_pieces() {
    // The worker reads the .torrent from its folder, as in any fetch.
    write_torrent(staging_.torrent_path(), torrent_);
    jobs_.add_endpoints({}, torrent_.trackers, torrent_.web_seeds);
    WorkerJob job = jobs_.make_job(JobKind::payload, staging_);
    job.pieces = to_ranges(pieces_);
    return run_supervised(request_.fetch, std::move(job), own_.lock_descriptor(), observer_, stop_)
        .downloaded_bytes;
  }

  // ---- Applying ----

  /// Runs again from the start after a kill. That is harmless, because it writes only bytes that differ from
  /// verified ones.
  std::uint64_t apply() {
    // Nothing is written before all pieces are verified.
    const std::map<std::uint64_t, PieceDigest> digests = verify_pieces();
    const std::set<std::size_t> files = files_to_write();
    // The order protects the journal of the release. open_journal() first marks the files as opened, so that
    // a kill during the writes makes the next fetch distrust their stamps. Pieces and new stamps are recorded
    // only after the data is durable.
    PieceCommitter* const committer = open_journal(files);
    for (const std::size_t file : files) apply(file);
    if (committer != nullptr) {
      for (const auto& [piece, digest] : digests) committer->add(piece, digest);
      committer->close_files();
    }
    return written_bytes_;
  }

  /// Hashes the fetched pieces on the disk, because the worker has talked to strangers and is not trusted.
  std::map<std::uint64_t, PieceDigest> verify_pieces() {
    const PieceStore store(staging_files_, map_, verifier_, nullptr, {.thread_count = 1, .on_failure = {}});
    std::map<std::uint64_t, PieceDigest> digests;
    for (const auto& [piece, blocks] : pieces_) {
      const auto digest = store.digest_on_disk(piece);
      if (!digest || verifier_.verify(piece, *digest) != MatchResult::match)
        throw Error(ErrorKind::incomplete, "piece " + std::to_string(piece) + " of '" + torrent_.layout.name +
                                               "' is not verified; the same command goes on from here");
      digests.emplace(piece, *digest);
    }
    return digests;
  }

  [[nodiscard]] std::set<std::size_t> files_to_write() const {
    std::set<std::size_t> files;
    for (const DamagedFile& damaged : request_.damage)
      for (std::size_t i = 0; i < torrent_.layout.files.size(); ++i)
        if (!torrent_.layout.files[i].pad && torrent_.layout.files[i].path == damaged.path) files.insert(i);
    return files;
  }

  /// Opens the journal of the fetch that brought the release, because that fetch would otherwise take the
  /// repaired files for changed. Null when there is no such journal, or when it does not know one of the
  /// files.
  PieceCommitter* open_journal(const std::set<std::size_t>& files) {
    const fs::path path = own_.journal_path().lexically_relative(own_.path());
    if (target_below() != release_below(torrent_.layout) || !storage_->find(path)) return nullptr;
    JournalState state(map_, verifier_, torrent_.layout.files.size());
    journal_.emplace(*storage_, path, torrent_.layout,
                     [&](const JournalRecord& record) { state.take(record); });
    for (const std::size_t file : files)
      if (state.file(file).state == JournalState::File::State::unknown) return nullptr;
    committer_.emplace(target_files_, map_, *journal_,
                       CommitObserver{.on_durable = [](auto) {}, .on_failure = [](const Error&) {}});
    committer_->open_files(std::vector<std::size_t>(files.begin(), files.end()));
    return &*committer_;
  }

  /// Durable on return.
  void apply(std::size_t file) {
    const std::uint64_t length_bytes = torrent_.layout.files[file].length_bytes;
    if (is_all_damaged(file)) keep_replaced(file);
    if (!target_files_.find(file) && length_bytes > 0) {  // then the whole file has been fetched
      storage_->rename(staging_files_.path(file), target_files_.path(file));
      written_bytes_ += length_bytes;
      return;
    }
    const std::shared_ptr<StorageFile> target = target_files_.open_for_writing(file);
    // Cuts what is too long; a file that is too short gets a hole, which its pieces fill.
    const std::uint64_t found_bytes = target->stamp().size_bytes;
    if (found_bytes > length_bytes)
      observer_.on_warning((own_.path() / target_files_.path(file)).string() + ": the last " +
                           std::to_string(found_bytes - length_bytes) +
                           " bytes are beyond the release's file, and are cut off");
    if (found_bytes != length_bytes) target->resize(length_bytes);
    const auto [first, last] = map_.pieces_of(file);
    for (auto piece = pieces_.lower_bound(first); piece != pieces_.end() && piece->first < last; ++piece)
      for (const PieceSlice& slice : map_.slices(piece->first))
        if (slice.file_index == file) apply(piece->first, slice);
    // Once per file and not per piece: until all files are done the staging folder is kept anyway.
    target->sync();
  }

  /// True when the file is there, and no byte of it was found right: it may be something else altogether.
  [[nodiscard]] bool is_all_damaged(std::size_t file) const {
    const auto found = target_files_.find(file);
    if (!found || found->size_bytes == 0) return false;
    std::uint64_t end_bytes = 0;
    for (const DamagedFile& damaged : request_.damage) {
      if (damaged.path != torrent_.layout.files[file].path) continue;
      for (const base::ByteRange& range : damaged.ranges)  // in order
        if (range.offset_bytes <= end_bytes) end_bytes = std::max(end_bytes, range.end_bytes());
    }
    return end_bytes > 0 && end_bytes >= torrent_.layout.files[file].length_bytes;
  }

  /// Moves the file into .sluice, so that the user can have it back. Its place is then free for the fetched
  /// one.
  void keep_replaced(std::size_t file) {
    const fs::path folder = own_.replaced_path().lexically_relative(own_.path());
    fs::path kept = folder / fs::path(torrent_.layout.files[file].path);
    for (int count = 1; storage_->find(kept); ++count)
      kept = folder / (torrent_.layout.files[file].path + '.' + std::to_string(count));
    target_files_.close(file);
    storage_->rename(target_files_.path(file), kept);
    observer_.on_warning((own_.path() / target_files_.path(file)).string() +
                         ": nothing of it was right; what was there is kept in " +
                         (own_.path() / kept).string());
  }

  void apply(std::uint64_t piece, const PieceSlice& slice) {
    std::vector<std::byte> wanted;
    std::vector<std::byte> found;
    for (std::uint64_t done = 0; done < slice.length_bytes; done += wanted.size()) {
      const std::uint64_t offset = slice.piece_offset_bytes + done;
      wanted.resize(std::min(kApplyBytes, slice.length_bytes - done));
      found.resize(wanted.size());
      staging_files_.read(piece, offset, wanted);
      target_files_.read(piece, offset, found);
      // Block by block, so that correct blocks between two damaged ones are not written.
      for (std::uint64_t at = 0; at < wanted.size(); at += kBlockBytes) {
        const std::uint64_t length = std::min<std::uint64_t>(kBlockBytes, wanted.size() - at);
        write_difference(piece, offset + at, base::Bytes(wanted).subspan(at, length),
                         base::Bytes(found).subspan(at, length));
      }
    }
  }

  /// Writes from the first differing byte to the last.
  void write_difference(std::uint64_t piece, std::uint64_t offset, base::Bytes wanted, base::Bytes found) {
    const base::ByteRange differs = base::find_difference(wanted, found);
    if (differs.length_bytes == 0) return;
    target_files_.write(piece, offset + differs.offset_bytes,
                        wanted.subspan(differs.offset_bytes, differs.length_bytes));
    written_bytes_ += differs.length_bytes;
  }

  const RepairRequest& request_;
  FetchObserver& observer_;
  const std::stop_token& stop_;
  JobBuilder jobs_;
  Torrent torrent_;
  PieceMap map_;
  PieceVerifier verifier_;
  OutputFolder own_;
  OutputFolder staging_;  // below own_
  std::unique_ptr<Storage> storage_;
  ReleaseFiles target_files_;
  ReleaseFiles staging_files_;
  DamagedPieces pieces_;
  std::optional<Journal> journal_;           // of the release; see open_journal()
  std::optional<PieceCommitter> committer_;  // writes journal_
  std::uint64_t written_bytes_ = 0;
};

}  // namespace

RepairResult repair(const RepairRequest& request, FetchObserver& observer, const std::stop_token& stop) {
  check_request(request.fetch);
  try {
    return Repair(request, observer, stop).run();
  } catch (const fs::filesystem_error& error) {
    base::throw_errno(error.path1(), "use", error.code().value());
  }
}

bool discard_repair(const fs::path& output_folder, const format::ReleaseLayout& layout) {
  const fs::path own = output_folder / ".sluice" / (torrent_key(layout) + ".repair");
  std::error_code error;
  // symlink_status() does not follow a link: a link in place of the folder is not ours, and what it leads to
  // must not be removed.
  if (!fs::is_directory(fs::symlink_status(own, error))) return false;
  // The lock makes sure that no repair is using the folder.
  const OutputFolder locked(output_folder, torrent_key(layout));
  fs::remove_all(locked.repair_path());
  return true;
}

}  // namespace sluice::fetch
