// The parent's side of a fetch, from a source to a complete release: magnet link or .torrent, metadata,
// checks of names and space, the payload job, and the final check of the journal. It runs in the caller's
// thread and opens no connection to peers; only workers do. While a worker runs, the metadata are dropped
// from memory.
//
// Invariant: what a worker delivers is used only after a check here. Its metadata must have the info-hash and
// pass the strict reader, its piece layers must hash to the roots, and its journal must match the torrent.

#include "fetch/fetch.h"

#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "fetch/disk/journal.h"
#include "fetch/disk/piece_layers.h"
#include "fetch/disk/resume.h"
#include "fetch/existing_files.h"
#include "fetch/job/memory_budget.h"
#include "fetch/job/memory_limit.h"
#include "fetch/job/worker_pipe.h"
#include "fetch/job_builder.h"
#include "fetch/output_folder.h"
#include "fetch/supervisor.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;
using format::ReleaseLayout;

bool is_magnet(std::string_view source) { return base::starts_with_ignoring_case(source, "magnet:"); }
bool is_url(std::string_view source) {
  return base::starts_with_ignoring_case(source, "http://") ||
         base::starts_with_ignoring_case(source, "https://");
}

// A glob applies to the whole path or to the file's name, so "*.json" selects JSON files in all folders.
// Without flags, fnmatch() lets '*' match a slash, so "model/*" selects the files of all folders below
// "model".
bool matches_any(const std::vector<std::string>& globs, const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return std::ranges::any_of(globs, [&](const std::string& glob) {
    return ::fnmatch(glob.c_str(), path.c_str(), 0) == 0 || ::fnmatch(glob.c_str(), name.c_str(), 0) == 0;
  });
}

/// One fetch. A magnet link becomes a torrent first, so fetch_release() always has one.
class Fetch {
 public:
  Fetch(const FetchRequest& request, FetchObserver& observer, const std::stop_token& stop)
      : request_(request), observer_(observer), stop_(stop), jobs_(request, observer) {}

  FetchResult run() {
    if (is_magnet(request_.source)) {
      magnet_ = parse_magnet(request_.source);
      for (const std::string& warning : magnet_.warnings) observer_.on_warning(warning);
      if (!magnet_.selected.empty() && !request_.select.empty())
        observer_.on_warning("--select is used instead of the selection in the magnet link (so=)");
      jobs_.add_endpoints(magnet_.peers, magnet_.trackers, magnet_.web_seeds);
      // A magnet link with a v1 hash has the key of its torrent, so a fetch by either continues the other.
      const OutputFolder folder(request_.output_folder, magnet_key());
      // An interrupted fetch of the same link has saved the .torrent, so peers need not be asked for it
      // again.
      if (!find_saved_torrent(folder)) fetch_metadata(folder);
      return fetch_release(folder);
    }
    torrent_ = read_source();
    const OutputFolder folder(request_.output_folder, torrent_key(torrent_.layout));
    save_torrent(folder);
    return fetch_release(folder);
  }

 private:
  [[nodiscard]] Torrent read_source() const {
    if (!request_.torrent.empty()) return parse(request_.torrent, request_.source);
    if (is_url(request_.source)) return parse(download_torrent(request_, stop_), request_.source);
    return load(request_.source);
  }

  [[nodiscard]] Torrent load(const fs::path& path) const {
    return parse(base::read_text_file(path, kTorrentBytesMax), path.string());
  }

  [[nodiscard]] Torrent parse(std::string content, const std::string& subject) const {
    check_metadata_memory(request_.memory_bytes, content, subject);
    return parse_torrent_file(std::move(content), subject, torrent_limits(request_.memory_bytes));
  }

  [[nodiscard]] std::string magnet_key() const {
    return magnet_.infohash_v1 ? base::to_hex(*magnet_.infohash_v1) : base::to_hex(*magnet_.infohash_v2);
  }

  [[nodiscard]] bool fits_magnet(const ReleaseLayout& layout) const {
    return (!magnet_.infohash_v1 || magnet_.infohash_v1 == layout.infohash_v1) &&
           (!magnet_.infohash_v2 || magnet_.infohash_v2 == layout.infohash_v2);
  }

  // ---- Metadata ----

  // A saved .torrent is used only if it has all info-hashes of the link. The file's name has only one of
  // them, and anybody may have written to the folder; a damaged file is replaced and is not an error.
  bool find_saved_torrent(const OutputFolder& folder) {
    if (!fs::exists(folder.torrent_path())) return false;
    try {
      Torrent saved = load(folder.torrent_path());
      if (!fits_magnet(saved.layout)) return false;
      torrent_ = std::move(saved);
      return true;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::malformed) throw;
      observer_.on_warning(std::string(error.what()) + "; the metadata is fetched again");
      return false;
    }
  }

  void fetch_metadata(const OutputFolder& folder) {
    WorkerJob job = jobs_.make_job(JobKind::metadata, folder);
    job.infohash_v1 = magnet_.infohash_v1;
    job.infohash_v2 = magnet_.infohash_v2;
    static_cast<void>(run_supervised(request_, std::move(job), folder.lock_descriptor(), observer_, stop_));
    const TorrentLimits limits = torrent_limits(request_.memory_bytes);
    torrent_.info = base::read_text_file(folder.info_path(), limits.bytes_max);
    fs::remove(folder.info_path());  // even if the checks below fail: the next attempt must start anew
    const std::string subject = "metadata of " + magnet_key();
    check_metadata_memory(request_.memory_bytes, torrent_.info, subject);
    torrent_.layout = parse_info(torrent_.info, subject, limits);
    if (!fits_magnet(torrent_.layout))
      base::throw_malformed(subject, "does not have the magnet link's info-hash");
    torrent_.trackers = magnet_.trackers;
    torrent_.web_seeds = magnet_.web_seeds;
    save_torrent(folder);
  }

  void save_torrent(const OutputFolder& folder) const { write_torrent(folder.torrent_path(), torrent_); }

  /// Removes the saved .torrent of a fetch that was refused before it wrote anything: the files that lie here
  /// are another release's, and must not be verified by this torrent.
  void forget_torrent(const OutputFolder& folder) const {
    if (!fs::exists(folder.journal_path())) fs::remove(folder.torrent_path());
  }

  // ---- Payload ----

  /// --select takes the place of the magnet link's own selection (BEP 53), and --exclude applies to both.
  [[nodiscard]] bool is_selected(std::size_t index) const {
    const std::string& path = torrent_.layout.files[index].path;
    if (!request_.select.empty()) return matches_any(request_.select, path);
    return magnet_.selected.empty() ||
           std::ranges::any_of(magnet_.selected, [&](const Magnet::IndexRange& range) {
             return range.first <= index && index <= range.last;
           });
  }

  [[nodiscard]] std::vector<bool> choose_files() const {
    std::vector<bool> wanted;
    std::uint64_t wanted_bytes = 0;
    for (std::size_t index = 0; index < torrent_.layout.files.size(); ++index) {
      const format::ReleaseFile& file = torrent_.layout.files[index];
      const bool chosen = !file.pad && is_selected(index) && !matches_any(request_.exclude, file.path);
      wanted.push_back(chosen);
      if (chosen) wanted_bytes += file.length_bytes;
    }
    if (wanted_bytes == 0)
      throw Error(ErrorKind::usage, magnet_.selected.empty() || !request_.select.empty()
                                        ? "--select and --exclude leave no file of the release"
                                        : "'so=' of the magnet link and --exclude leave no file of the " +
                                              base::to_counted(torrent_.layout.files.size(), "file"));
    return wanted;
  }

  // Everything that can refuse the release comes before the payload job: the user's selection, memory,
  // symbolic links and space. A dry run reports the layout and the disk, and ends before anything is written.
  FetchResult fetch_release(const OutputFolder& folder) {
    jobs_.add_endpoints({}, torrent_.trackers, torrent_.web_seeds);
    for (const std::string& warning : torrent_.layout.warnings) observer_.on_warning(warning);
    observer_.on_layout(torrent_.layout);
    FetchResult result;
    result.path = folder.release_path(torrent_.layout);
    result.torrent = folder.torrent_path();
    const std::vector<bool> wanted = choose_files();
    const Preflight preflight = folder.preflight(torrent_.layout, wanted);
    observer_.on_preflight(preflight);
    if (!request_.dry_run) {
      // Throws when --memory is too small, before anything is written.
      static_cast<void>(share_memory(request_.memory_bytes, torrent_.layout));
      folder.check_paths(torrent_.layout);
      folder.check_case(torrent_.layout);
      folder.check_space(preflight);
      take_piece_layers(folder);  // of an earlier fetch that was interrupted
      const JobOutcome outcome = run_alone(make_payload_job(folder, wanted), folder);
      count(outcome, wanted, result);
      take_piece_layers(folder);
      // The order matters: a layer from peers is complete at once, and only a hybrid torrent's journal can
      // supply what they did not send. check_journal() comes last, since without its layers a v2 piece cannot
      // be verified.
      make_piece_layers(folder);
      check_journal(folder, wanted);
    }
    result.layout = std::move(torrent_.layout);
    return result;
  }

  WorkerJob make_payload_job(const OutputFolder& folder, const std::vector<bool>& wanted) {
    if (folder.discard_foreign_journal())
      observer_.on_warning(folder.journal_path().string() +
                           ": other users can write to it, so it proves nothing; all files are hashed again");
    WorkerJob job = jobs_.make_job(JobKind::payload, folder);
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (!wanted[i]) job.unwanted.push_back(i);
    job.recheck = request_.recheck;
    try {
      const auto apart = check_existing_files(
          {folder, torrent_.layout, wanted, request_.overwrite, torrent_limits(request_.memory_bytes)},
          observer_, stop_);
      job.apart.assign(apart.begin(), apart.end());
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::usage) forget_torrent(folder);
      throw;
    }
    folder.create_journal();
    return job;
  }

  void count(const JobOutcome& outcome, const std::vector<bool>& wanted, FetchResult& result) const {
    result.downloaded_bytes = outcome.downloaded_bytes;
    result.rehashed_bytes = outcome.rehashed_bytes;
    result.adopted_bytes = outcome.adopted_bytes;
    const PieceMap map(torrent_.layout);
    std::uint64_t counted = 0;  // pieces before it are counted; neighbours share one
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const format::ReleaseFile& file = torrent_.layout.files[i];
      result.file_count += file.pad ? 0 : 1;
      if (!wanted[i]) continue;
      ++result.wanted_files;
      result.wanted_bytes += file.length_bytes;
      const auto [first, last] = map.pieces_of(i);
      if (last > counted) result.wanted_pieces += last - std::max(first, counted);
      counted = std::max(counted, last);
    }
    // The worker is not trusted with more than there is.
    result.believed_bytes = std::min(outcome.believed_bytes.value_or(0), result.wanted_bytes);
    result.believed_pieces = std::min(outcome.believed_pieces, result.wanted_pieces);
  }

  /// Drops the metadata while the worker runs, because --memory counts them only once, and reads them again.
  JobOutcome run_alone(WorkerJob job, const OutputFolder& folder) {
    const auto infohash_v1 = torrent_.layout.infohash_v1;
    const auto infohash_v2 = torrent_.layout.infohash_v2;
    { const Torrent given_up = std::move(torrent_); }  // an assigned string would keep its memory
    return_free_memory();
    const JobOutcome outcome =
        run_supervised(request_, std::move(job), folder.lock_descriptor(), observer_, stop_);
    torrent_ = load(folder.torrent_path());
    // The file lay on the disk while the worker ran, and the worker must not be able to give the parent
    // another torrent, whose hashes fit what it has written.
    if (torrent_.layout.infohash_v1 != infohash_v1 || torrent_.layout.infohash_v2 != infohash_v2)
      base::throw_malformed(folder.torrent_path().string(), "has become another torrent");
    return outcome;
  }

  /// The worker has talked to strangers and is not trusted. The journal is compared with the torrent's
  /// hashes, which the parent has checked itself.
  void check_journal(const OutputFolder& folder, const std::vector<bool>& wanted) const {
    const PieceMap map(torrent_.layout);
    const PieceVerifier verifier(torrent_.layout, map);
    JournalState state(map, verifier, torrent_.layout.files.size());
    const auto storage = open_storage(folder.path());
    const Journal journal(*storage, folder.journal_path().lexically_relative(folder.path()), torrent_.layout,
                          [&](const JournalRecord& record) { state.take(record); });
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      // Every piece that holds bytes of a wanted file must be verified; pieces that lie in unwanted files
      // alone may be missing.
      const auto [first, last] = wanted[i] ? map.pieces_of(i) : PieceMap::Range();
      for (std::uint64_t piece = first; piece < last; ++piece)
        if (!state.verified(piece))
          throw Error(ErrorKind::incomplete, torrent_.layout.files[i].path + ": piece " +
                                                 std::to_string(piece) +
                                                 " is not verified; the same command goes on from here");
    }
  }

  /// Adds the piece layers that the worker has saved. A magnet link has none, but sharing a v2 torrent needs
  /// them (BEP 52).
  void take_piece_layers(const OutputFolder& folder) {
    if (!torrent_.layout.infohash_v2 || !fs::exists(folder.layers_path())) return;
    try {
      add_piece_layers(torrent_.layout, base::read_text_file(folder.layers_path(), kTorrentBytesMax),
                       folder.layers_path().string());
      save_torrent(folder);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::malformed) throw;
      observer_.on_warning(error.what());
    }
    fs::remove(folder.layers_path());
  }

  /// Computes the piece layers of a hybrid torrent from the digests in the journal when no peer has sent
  /// them.
  void make_piece_layers(const OutputFolder& folder) {
    if (!torrent_.layout.infohash_v1 || !torrent_.layout.infohash_v2) return;
    const auto storage = open_storage(folder.path());
    const auto path = folder.journal_path().lexically_relative(folder.path());
    if (add_layers_from_journal(torrent_.layout, *storage, path)) save_torrent(folder);
  }

  const FetchRequest& request_;
  FetchObserver& observer_;
  const std::stop_token& stop_;
  JobBuilder jobs_;
  Magnet magnet_;
  Torrent torrent_;
};

}  // namespace

FetchResult fetch(const FetchRequest& request, FetchObserver& observer, const std::stop_token& stop) {
  check_request(request);
  try {
    return Fetch(request, observer, stop).run();
  } catch (const fs::filesystem_error& error) {
    base::throw_errno(error.path1(), "use", error.code().value());
  }
}

}  // namespace sluice::fetch
