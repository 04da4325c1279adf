// Each server has a thread that runs Mirror::run(): claim a run of pieces, fetch the ranges of the files
// under it into a RunBuffer, verify each piece, and complete or release it. The threads share the scheduler,
// the rate limiter and two counters (MirrorPool::Shared); everything else belongs to one thread. Waiting
// (pauses, rate limit, transfers) ends at once when the pool is destroyed. Invariants: every claimed piece is
// completed or released exactly once (ClaimedRun), and no piece is completed that does not match the
// torrent's hash.

#include "fetch/mirror/mirror.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <utility>

#include "base/ascii.h"
#include "base/bytes.h"
#include "base/stopwatch.h"
#include "fetch/net/address.h"
#include "fetch/net/http_ranges.h"

namespace sluice::fetch {
namespace {

using base::Clock;
using std::chrono::milliseconds;

/// A run is what one mirror fetches at a time. It is so long that the pauses between requests do not matter,
/// and takes about kRunTime, so that a slow mirror does not keep many pieces from others.
constexpr std::uint64_t kRunBytesFirst = 1 << 20;
constexpr std::uint64_t kRunBytesMax = 8 << 20;
constexpr auto kRunTime = milliseconds(4'000);
/// If a transfer fails after this many bytes, it is resumed immediately instead of after a pause.
constexpr std::uint64_t kResumeBytesMin = 256 << 10;
// A server can send a wrong piece by accident, but one with another version of the release sends nothing
// else.
constexpr std::size_t kWrongPiecesMax = 3;
constexpr std::size_t kAbsentFilesMax = 3;  // counts only before the first file that exists
constexpr std::size_t kFileWarningsMax = 5;
constexpr unsigned kRefusalsMax = 3;  // of one file

/// Sleeps until the time has passed or a stop is requested.
/// The condition variable is never notified; it is here because its wait can be ended by a stop token, which
/// a plain sleep cannot.
void pause(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
}

/// Limits the rate of all mirrors together. A thread that has received bytes waits until they would have
/// arrived at the limited rate; meanwhile its socket's buffer fills, and TCP slows the sender down.
class RateLimiter {
 public:
  explicit RateLimiter(std::uint64_t bytes_per_s) : bytes_per_s_(static_cast<double>(bytes_per_s)) {}

  /// Wakes the waiting threads, because their waiting time depends on the rate.
  void set_rate(std::uint64_t bytes_per_s) {
    {
      const std::lock_guard lock(mutex_);
      settle_debt();
      bytes_per_s_ = static_cast<double>(bytes_per_s);
    }
    changed_.notify_all();
  }

  void take(std::uint64_t bytes, const std::stop_token& stop) {
    constexpr std::chrono::duration<double> kLongest(60);
    std::unique_lock lock(mutex_);
    settle_debt();
    // All threads share the debt: a fast mirror makes the others wait, too, which keeps the sum at the limit.
    debt_bytes_ += static_cast<double>(bytes);
    while (bytes_per_s_ > 0 && debt_bytes_ > 0 && !stop.stop_requested()) {
      const std::chrono::duration<double> due(debt_bytes_ / bytes_per_s_);
      changed_.wait_for(lock, stop, std::min(due, kLongest),
                        [this, rate = bytes_per_s_] { return bytes_per_s_ != rate; });
      settle_debt();
    }
  }

 private:
  void settle_debt() {
    const auto now = Clock::now();
    const std::chrono::duration<double> passed = now - settled_at_;
    settled_at_ = now;
    // No credit is saved up while nothing arrives: a burst after a pause would exceed the limit.
    debt_bytes_ = bytes_per_s_ > 0 ? std::max(0.0, debt_bytes_ - passed.count() * bytes_per_s_) : 0;
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  double bytes_per_s_;     // 0: no limit
  double debt_bytes_ = 0;  // received earlier than the rate allows
  Clock::time_point settled_at_ = Clock::now();
};

/// Consecutive bytes of one file that a run needs.
struct FilePart {
  std::size_t file_index = 0;
  std::uint64_t file_offset_bytes = 0;
  std::uint64_t run_offset_bytes = 0;
  std::uint64_t length_bytes = 0;
};

/// The bytes of a run, one vector per piece, because pieces are passed on one by one. Padding is zeros.
class RunBuffer {
 public:
  RunBuffer(const PieceMap& map, PieceRun run) {
    for (std::uint64_t i = 0; i < run.count; ++i)
      pieces_.emplace_back(static_cast<std::size_t>(map.piece_bytes(run.first + i)));
  }

  void write(std::uint64_t run_offset_bytes, std::span<const char> bytes) {
    const std::uint64_t piece_bytes = pieces_.front().size();  // only the last piece can be shorter
    while (!bytes.empty()) {
      std::vector<char>& piece = pieces_.at(run_offset_bytes / piece_bytes);
      const std::uint64_t at = run_offset_bytes % piece_bytes;
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), piece.size() - at));
      std::copy_n(bytes.begin(), count, piece.begin() + static_cast<std::ptrdiff_t>(at));
      bytes = bytes.subspan(count);
      run_offset_bytes += count;
    }
  }

  [[nodiscard]] std::vector<char>& piece(std::uint64_t index_in_run) { return pieces_.at(index_in_run); }

 private:
  std::vector<std::vector<char>> pieces_;
};

/// A claimed run whose pieces are completed or released in order. The destructor releases the rest.
class ClaimedRun {
 public:
  ClaimedRun(PieceScheduler& scheduler, PieceRun run) : scheduler_(scheduler), rest_(run) {}
  ~ClaimedRun() {
    while (rest_.count > 0) release_next();
  }
  ClaimedRun(const ClaimedRun&) = delete;
  ClaimedRun& operator=(const ClaimedRun&) = delete;

  void complete_next(std::vector<char> bytes) { scheduler_.complete(take_next(), std::move(bytes)); }
  void release_next() { scheduler_.release(take_next()); }

 private:
  std::uint64_t take_next() {
    --rest_.count;
    return rest_.first++;
  }

  PieceScheduler& scheduler_;
  PieceRun rest_;
};

/// The parts of files under a run. Adjacent slices of a file become one part, so that a run inside one file
/// takes a single request; padding between files needs none.
std::vector<FilePart> file_parts(const PieceMap& map, std::uint64_t piece_bytes, PieceRun run) {
  std::vector<FilePart> parts;
  for (std::uint64_t i = 0; i < run.count; ++i) {
    for (const PieceSlice& slice : map.slices(run.first + i)) {
      const std::uint64_t run_offset = i * piece_bytes + slice.piece_offset_bytes;
      FilePart* last = parts.empty() ? nullptr : &parts.back();
      if (last != nullptr && last->file_index == slice.file_index &&
          last->run_offset_bytes + last->length_bytes == run_offset) {
        last->length_bytes += slice.length_bytes;
      } else {
        parts.push_back({slice.file_index, slice.file_offset_bytes, run_offset, slice.length_bytes});
      }
    }
  }
  return parts;
}

/// Cuts the bytes of one file, which arrive in order, into the pieces that begin in it. A piece that ends in
/// a later file is kept for the caller.
class PieceCutter {
 public:
  /// `begin` says whether a piece is wanted; `end` takes one that was.
  PieceCutter(const PieceMap& map, std::size_t file_index, std::function<bool(std::uint64_t)> begin,
              std::function<void(std::uint64_t, std::vector<char>)> end)
      : map_(map), begin_(std::move(begin)), end_(std::move(end)) {
    const PieceMap::Range pieces = map.pieces_of(file_index);
    next_ = pieces.first;
    last_ = pieces.last;
    if (next_ < last_ && map.slices(next_).front().file_index != file_index) ++next_;
  }

  void write(std::uint64_t file_offset_bytes, std::span<const char> bytes) {
    while (!bytes.empty() && next_ < last_) {
      const PieceSlice slice = map_.slices(next_).front();
      if (file_offset_bytes < slice.file_offset_bytes) {  // still in a piece that began in an earlier file
        const auto skipped =
            std::min<std::uint64_t>(bytes.size(), slice.file_offset_bytes - file_offset_bytes);
        bytes = bytes.subspan(static_cast<std::size_t>(skipped));
        file_offset_bytes += skipped;
        continue;
      }
      const std::uint64_t at = file_offset_bytes - slice.file_offset_bytes;
      if (at == 0) open_piece();
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), slice.length_bytes - at));
      if (is_wanted_) std::copy_n(bytes.begin(), count, piece_.begin() + static_cast<std::ptrdiff_t>(at));
      bytes = bytes.subspan(count);
      file_offset_bytes += count;
      if (at + count == slice.length_bytes) close_piece();
    }
  }

  /// The wanted piece whose begin has arrived whole and whose rest lies in later files.
  [[nodiscard]] bool has_rest() const { return rest_.has_value(); }
  [[nodiscard]] std::uint64_t rest_piece() const { return *rest_; }
  [[nodiscard]] std::vector<char>& rest_bytes() { return piece_; }

 private:
  void open_piece() {
    is_wanted_ = begin_(next_);
    if (is_wanted_) piece_.assign(static_cast<std::size_t>(map_.piece_bytes(next_)), 0);
  }

  void close_piece() {
    const std::uint64_t piece = next_++;
    if (!is_wanted_) return;
    if (map_.slices(piece).size() > 1) {
      rest_ = piece;
    } else {
      end_(piece, std::move(piece_));
    }
    is_wanted_ = false;
  }

  const PieceMap& map_;
  const std::function<bool(std::uint64_t)> begin_;
  const std::function<void(std::uint64_t, std::vector<char>)> end_;
  std::uint64_t next_ = 0;  // the piece in progress, or the next one
  std::uint64_t last_ = 0;
  bool is_wanted_ = false;
  std::vector<char> piece_;
  std::optional<std::uint64_t> rest_;
};

std::string with_slash(std::string url) {
  if (!url.ends_with('/')) url += '/';
  return url;
}

}  // namespace

std::vector<std::string> file_urls(const format::ReleaseLayout& layout, std::size_t file_index,
                                   const std::string& url, UrlRule rule) {
  // Presigned URLs have a query with a token, which must follow the file's path.
  const std::string root = url.substr(0, url.find_first_of("?#"));
  const std::string query = url.substr(root.size(), url.find('#', root.size()) - root.size());
  const std::string path = base::percent_encode(layout.files.at(file_index).path, "/");
  const std::string below = with_slash(root) + path + query;
  if (layout.single_file) {
    const std::string itself = root + query;
    // BEP 19: a URL that ends in '/' is a folder, to which the name of the file is appended.
    if (rule == UrlRule::web_seed) return {root.ends_with('/') ? below : itself};
    return {below, itself};
  }
  const std::string in_folder =
      with_slash(root) + base::percent_encode(layout.name, "/") + "/" + path + query;
  if (rule == UrlRule::web_seed) return {in_folder};
  return {below, in_folder};
}

/// The threads of all mirrors share this. The layout, map, verifier and options are only read; the scheduler
/// and the limiter lock themselves; the counters are atomic.
struct MirrorPool::Shared {
  const format::ReleaseLayout& layout;
  const PieceMap& map;
  const PieceVerifier& verifier;
  const MirrorOptions options;
  PieceScheduler& scheduler;
  RateLimiter rate_limiter;
  std::atomic<std::uint64_t> downloaded_bytes = 0;
  std::atomic<std::size_t> used_count = 0;
};

/// One server; its functions run in its own thread.
class MirrorPool::Mirror {
 public:
  Mirror(Shared& shared, const MirrorSource& source, std::stop_token stop)
      : shared_(shared),
        source_(source),
        stop_(std::move(stop)),
        title_((source.rule == UrlRule::mirror ? "mirror " : "web seed ") + source.endpoint.address),
        http_(http_options(shared.options, source), stop_),
        pause_(shared.options.pause_min) {}

  // `has` must be fast, because the scheduler calls it under its mutex for each piece that it considers.
  void run() {
    const std::function<bool(std::uint64_t)> has = [this](std::uint64_t piece) { return may_have(piece); };
    while (!dropped_ && !stop_.stop_requested()) {
      // At least one piece, even if it is larger than a run should be.
      const auto count_max = std::max<std::uint64_t>(1, run_bytes_ / shared_.layout.piece_bytes);
      const PieceRun run = shared_.scheduler.claim(sends_whole_files_ ? 1 : count_max, has);
      if (run.count == 0)
        pause(shared_.options.ask_again_after, stop_);
      else if (sends_whole_files_)
        get_file_of(run);
      else
        get_run(run);
    }
  }

 private:
  static HttpOptions http_options(const MirrorOptions& options, const MirrorSource& source) {
    HttpOptions http{.allow_private = options.allow_private,
                     .trusted = source.endpoint.trusted,
                     .connect_timeout = options.connect_timeout,
                     .stall_timeout = options.stall_timeout};
    // A server must not look stalled because of our own limit, or of a mirror's small share of it.
    if (const std::uint64_t limit = options.limit_down_bytes_per_s; limit != 0)
      http.stall_below_bytes_per_s = std::min(http.stall_below_bytes_per_s, limit / 1024);
    return http;
  }

  // ---- Which pieces this server can deliver ----

  [[nodiscard]] bool may_have(std::uint64_t piece) const {
    if (wrong_pieces_.contains(piece)) return false;
    // The scheduler asks for every missing piece, so the common case must not compute slices.
    if (lost_files_.empty() && !shared_.verifier.uses_node()) return true;
    const auto slices = shared_.map.slices(piece);
    return can_verify(slices) && std::ranges::none_of(slices, [&](const PieceSlice& slice) {
             return lost_files_.contains(slice.file_index);
           });
  }

  /// In a v2 torrent from a magnet link the hashes of a piece may not be known yet. A file of at most one
  /// piece needs no piece layer: its root is the hash of the piece.
  [[nodiscard]] bool can_verify(const std::vector<PieceSlice>& slices) const {
    if (shared_.verifier.uses_sha1()) return true;
    const format::ReleaseFile& file = shared_.layout.files[slices.front().file_index];
    return file.length_bytes <= shared_.layout.piece_bytes || !file.piece_layer.empty();
  }

  // ---- Fetching a run ----

  void get_run(PieceRun run) {
    // The claim outlives everything below: whatever throws or returns early, its destructor gives the pieces
    // back to the other mirrors and to the peers.
    ClaimedRun claimed(shared_.scheduler, run);
    RunBuffer buffer(shared_.map, run);
    const auto start = Clock::now();
    // When a part fails, the pieces before it are still complete and worth passing on.
    std::uint64_t complete_bytes = run.count * shared_.layout.piece_bytes;
    RangeAnswer answer{.outcome = RangeOutcome::complete};
    for (const FilePart& part : file_parts(shared_.map, shared_.layout.piece_bytes, run)) {
      answer = get_part(part, buffer);
      if (answer.outcome == RangeOutcome::complete) continue;
      // The parts are fetched in the order of the run, so all bytes in front of the failed one are there.
      complete_bytes = part.run_offset_bytes + answer.received_bytes;
      record_problem(part.file_index, answer);
      break;
    }
    pass_on(run, claimed, buffer, complete_bytes);
    // After pass_on(): the pieces that failed are free for others while this mirror pauses.
    if (answer.outcome == RangeOutcome::complete)
      adapt_run_length(Clock::now() - start);
    else
      pause_after(answer);
  }

  void pause_after(const RangeAnswer& answer) {
    if (answer.outcome != RangeOutcome::failed || dropped_) return;
    pause(std::max<milliseconds>(pause_, answer.retry_after.value_or(std::chrono::seconds(0))), stop_);
    pause_ = std::min(pause_ * 2, shared_.options.pause_max);
  }

  // ---- A server without byte ranges ----

  /// Reads the file in which the run begins from its start, and claims its pieces one by one as they come by,
  /// so that reading a file once is enough for all of its pieces.
  void get_file_of(PieceRun run) {
    const std::size_t file_index = shared_.map.slices(run.first).front().file_index;
    shared_.scheduler.release(run.first);  // it is claimed again when its turn comes
    const std::uint64_t passed_on_before = passed_on_;
    std::optional<ClaimedRun> claimed;
    PieceCutter cutter(
        shared_.map, file_index, [&](std::uint64_t piece) { return claim_only(piece, claimed); },
        [&](std::uint64_t piece, std::vector<char> bytes) { pass_on_one(piece, claimed, std::move(bytes)); });
    const std::uint64_t file_bytes = shared_.layout.files[file_index].length_bytes;
    RangeAnswer answer = get_at_any_url(file_index, [&](const std::string& url) {
      return get(url, {file_index, 0, 0, file_bytes},
                 [&](std::uint64_t offset, std::span<const char> bytes) { cutter.write(offset, bytes); });
    });
    if (answer.outcome == RangeOutcome::complete && cutter.has_rest()) {
      answer = get_rest(cutter.rest_piece(), cutter.rest_bytes());
      if (answer.outcome == RangeOutcome::complete)
        pass_on_one(cutter.rest_piece(), claimed, std::move(cutter.rest_bytes()));
    } else if (answer.outcome != RangeOutcome::complete) {
      record_problem(file_index, answer);
    }
    claimed.reset();
    if (answer.outcome != RangeOutcome::complete) return pause_after(answer);
    failures_ = 0;
    if (passed_on_ > passed_on_before) {
      pause_ = shared_.options.pause_min;
    } else {
      // Others have taken every piece meanwhile. Without a pause the file would be read over and over.
      pause(pause_, stop_);
      pause_ = std::min(pause_ * 2, shared_.options.pause_max);
    }
  }

  /// Claims this piece alone. The server sends faster than pieces reach the disk, so the claim waits a little
  /// while there is no memory for it; a piece that others have or fetch is left out.
  bool claim_only(std::uint64_t piece, std::optional<ClaimedRun>& claimed) {
    constexpr int kTries = 40;
    for (int i = 0; i < kTries && !stop_.stop_requested(); ++i) {
      bool is_missing = false;
      const PieceRun run = shared_.scheduler.claim(1, [&](std::uint64_t offered) {
        is_missing = is_missing || offered == piece;
        return offered == piece && may_have(piece);
      });
      if (run.count > 0) {
        claimed.emplace(shared_.scheduler, run);
        return true;
      }
      // The scheduler offers nothing at all while it has no memory for claims.
      if (is_missing || !shared_.scheduler.is_missing(piece)) return false;
      pause(shared_.options.ask_again_after, stop_);
    }
    return false;
  }

  void pass_on_one(std::uint64_t piece, std::optional<ClaimedRun>& claimed, std::vector<char> bytes) {
    if (is_right(piece, bytes)) {
      claimed->complete_next(std::move(bytes));
      ++passed_on_;
    } else {
      claimed->release_next();
    }
    claimed.reset();
  }

  /// The parts of a piece in later files, which begin at the start of their files.
  RangeAnswer get_rest(std::uint64_t piece, std::vector<char>& bytes) {
    const auto slices = shared_.map.slices(piece);
    for (std::size_t i = 1; i < slices.size(); ++i) {
      const PieceSlice& slice = slices[i];
      const RangeAnswer answer = get_at_any_url(slice.file_index, [&](const std::string& url) {
        return get(url, {slice.file_index, 0, 0, slice.length_bytes},
                   [&](std::uint64_t offset, std::span<const char> part) {
                     std::ranges::copy(part, bytes.begin() + static_cast<std::ptrdiff_t>(
                                                                 slice.piece_offset_bytes + offset));
                   });
      });
      if (answer.outcome == RangeOutcome::complete) continue;
      record_problem(slice.file_index, answer);
      return answer;
    }
    return {.outcome = RangeOutcome::complete};
  }

  /// Doubles the run of a fast server and halves that of a slow one. The run may fall to a single byte, which
  /// run() rounds up to one piece. Success also ends a series of failures.
  void adapt_run_length(Clock::duration took) {
    failures_ = 0;
    pause_ = shared_.options.pause_min;
    if (took < kRunTime / 2) run_bytes_ = std::min(run_bytes_ * 2, kRunBytesMax);
    if (took > kRunTime) run_bytes_ = std::max(run_bytes_ / 2, std::uint64_t{1});
  }

  /// Verifies the pieces within the first `complete_bytes` of the run and passes them on.
  void pass_on(PieceRun run, ClaimedRun& claimed, RunBuffer& buffer, std::uint64_t complete_bytes) {
    for (std::uint64_t i = 0; i < run.count; ++i) {
      std::vector<char>& bytes = buffer.piece(i);
      const bool complete = i * shared_.layout.piece_bytes + bytes.size() <= complete_bytes;
      // A run must be completed or released in order, so a wrong piece is released before the next one is
      // looked at.
      if (complete && is_right(run.first + i, bytes))
        claimed.complete_next(std::move(bytes));
      else
        claimed.release_next();
    }
  }

  [[nodiscard]] bool is_right(std::uint64_t piece, const std::vector<char>& bytes) {
    const PieceDigest digest = shared_.verifier.digest(piece, std::as_bytes(std::span(bytes)));
    const MatchResult result = shared_.verifier.verify(piece, digest);
    if (result == MatchResult::mismatch) record_wrong(piece);
    return result == MatchResult::match;
  }

  // ---- Fetching the part of a file ----

  /// Resumes a broken transfer as long as each attempt makes progress.
  RangeAnswer get_part(const FilePart& part, RunBuffer& buffer) {
    // Without this, one broken connection would throw away up to 8 MiB. An attempt must bring at least
    // kResumeBytesMin, or a server that breaks off at once would be asked without a pause.
    FilePart rest = part;
    for (;;) {
      RangeAnswer answer = get_at_any_url(rest.file_index, [&](const std::string& url) {
        return get(url, rest, [&](std::uint64_t offset, std::span<const char> bytes) {
          buffer.write(rest.run_offset_bytes + offset, bytes);
        });
      });
      const bool made_progress = answer.received_bytes >= kResumeBytesMin;
      rest.file_offset_bytes += answer.received_bytes;
      rest.run_offset_bytes += answer.received_bytes;
      rest.length_bytes -= answer.received_bytes;
      answer.received_bytes = part.length_bytes - rest.length_bytes;
      if (answer.outcome != RangeOutcome::failed || !made_progress || rest.length_bytes == 0) return answer;
    }
  }

  RangeAnswer get_at_any_url(std::size_t file_index,
                             const std::function<RangeAnswer(const std::string&)>& get_from) {
    const auto urls = file_urls(shared_.layout, file_index, source_.endpoint.address, source_.rule);
    // A server has its files at one of the possible places, so the place of the last file is tried first.
    std::optional<RangeAnswer> first;
    for (std::size_t i = 0; i < urls.size(); ++i) {
      const std::size_t index = (url_index_ + i) % urls.size();
      RangeAnswer answer = get_from(urls[index]);
      if (answer.outcome == RangeOutcome::complete) {
        url_index_ = index;
        found_any_ = true;
      }
      // A failure that may pass says nothing about the place, so the other URL is not tried.
      if (answer.outcome != RangeOutcome::file_unusable) return answer;
      // Of two problems, "the file has another length" says more than "the file is absent".
      if (!first || (first->absent && !answer.absent)) first = std::move(answer);
    }
    return *first;
  }

  RangeAnswer get(const std::string& url, const FilePart& part, const RangeSink& sink) {
    const RangeRequest request{.url = url,
                               .offset_bytes = part.file_offset_bytes,
                               .length_bytes = part.length_bytes,
                               .file_bytes = shared_.layout.files[part.file_index].length_bytes};
    return http_.get(request, [&](std::uint64_t offset, std::span<const char> bytes) {
      sink(offset, bytes);
      shared_.downloaded_bytes += bytes.size();
      // This blocks inside libcurl's callback on purpose: while the callback does not return, libcurl does
      // not read from the socket.
      shared_.rate_limiter.take(bytes.size(), stop_);
    });
  }

  // ---- Problems ----

  void record_problem(std::size_t file_index, const RangeAnswer& answer) {
    switch (answer.outcome) {
      case RangeOutcome::file_unusable: return lose_file(file_index, answer);
      case RangeOutcome::server_unusable: return drop(answer.why);
      case RangeOutcome::whole_only: return read_whole_files(answer.why);
      case RangeOutcome::failed: return record_failure(file_index, answer);
      default: return;
    }
  }

  // A file that the server lacks is not asked for again. A server that has none of the first few files is at
  // the wrong URL, or is no mirror at all.
  void lose_file(std::size_t file_index, const RangeAnswer& answer) {
    lost_files_.insert(file_index);
    if (lost_files_.size() <= kFileWarningsMax)
      warn(": '" + shared_.layout.files[file_index].path + "' cannot be had from it: " + answer.why);
    if (answer.absent) ++absent_files_;
    if (!found_any_ && absent_files_ == kAbsentFilesMax) drop("it has none of the files that were asked for");
  }

  void read_whole_files(const std::string& why) {
    if (!sends_whole_files_) warn(": " + why + "; files are read from their start");
    sends_whole_files_ = true;
  }

  void record_failure(std::size_t file_index, const RangeAnswer& answer) {
    const std::string& why = answer.why;
    // A file that stays refused is not one whose signed URL has expired.
    if (answer.refused && ++refusals_[file_index] >= kRefusalsMax) return lose_file(file_index, answer);
    // A server that says when to come again does what it should.
    if (!answer.retry_after) ++failures_;
    if (failures_ >= shared_.options.failures_max)
      return drop("it failed " + std::to_string(failures_) + " times in a row, the last time: " + why);
    // Only the first failure is reported: a slow network would otherwise fill the screen.
    if (!failed_before_) warn(": " + why + "; it is tried again");
    failed_before_ = true;
  }

  void record_wrong(std::uint64_t piece) {
    wrong_pieces_.insert(piece);
    if (wrong_pieces_.size() > kWrongPiecesMax) return;  // the server is dropped, but its run has more pieces
    const auto slices = shared_.map.slices(piece);
    std::string what = "piece " + std::to_string(piece) + ", in '" +
                       shared_.layout.files[slices.front().file_index].path + "'";
    if (slices.size() > 1) what += " and " + std::to_string(slices.size() - 1) + " more";
    warn(": " + what + ", is not what the torrent says");
    if (wrong_pieces_.size() == kWrongPiecesMax)
      drop(std::to_string(kWrongPiecesMax) + " pieces were wrong, the last " + what);
  }

  void drop(const std::string& why) {
    if (dropped_) return;
    dropped_ = true;
    warn(" is no longer used: " + why);
  }

  void warn(const std::string& message) { shared_.scheduler.warn(title_ + message); }

  Shared& shared_;
  const MirrorSource source_;
  const std::stop_token stop_;
  const std::string title_;
  HttpRanges http_;
  std::uint64_t run_bytes_ = kRunBytesFirst;
  std::size_t url_index_ = 0;  // the entry of file_urls() that had the last file
  std::set<std::size_t> lost_files_;
  std::set<std::uint64_t> wrong_pieces_;
  std::size_t absent_files_ = 0;
  bool found_any_ = false;
  bool sends_whole_files_ = false;
  std::uint64_t passed_on_ = 0;               // pieces out of whole files
  std::map<std::size_t, unsigned> refusals_;  // by file
  unsigned failures_ = 0;                     // in a row
  milliseconds pause_;
  bool failed_before_ = false;
  bool dropped_ = false;
};

MirrorPool::MirrorPool(const format::ReleaseLayout& layout, const PieceMap& map,
                       const PieceVerifier& verifier, const std::vector<MirrorSource>& mirrors,
                       const MirrorOptions& options, PieceScheduler& scheduler)
    : shared_(new Shared{layout, map, verifier, options, scheduler,
                         RateLimiter(options.limit_down_bytes_per_s)}) {
  for (const MirrorSource& source : mirrors) {
    if (const std::string problem = web_seed_problem(source.endpoint.address); !problem.empty()) {
      scheduler.warn(source.endpoint.address + ": " + problem + ", and is not used");
      continue;
    }
    ++shared_->used_count;
    // An exception that left the thread would end the process, and one broken mirror must not end a fetch.
    threads_.emplace_back([shared = shared_.get(), source](const std::stop_token& stop) {
      try {
        Mirror(*shared, source, stop).run();
      } catch (const std::exception& error) {
        shared->scheduler.warn(source.endpoint.address + " is no longer used: " + error.what());
      }
      --shared->used_count;
    });
  }
}

MirrorPool::~MirrorPool() {
  for (std::jthread& thread : threads_) thread.request_stop();  // all of them, before the first is joined
}

void MirrorPool::limit_down(std::uint64_t bytes_per_s) { shared_->rate_limiter.set_rate(bytes_per_s); }

std::uint64_t MirrorPool::downloaded_bytes() const { return shared_->downloaded_bytes; }
std::size_t MirrorPool::used_count() const { return shared_->used_count; }

}  // namespace sluice::fetch
