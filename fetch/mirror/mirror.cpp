#include "fetch/mirror/mirror.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <utility>

#include "base/bytes.h"
#include "fetch/net/address.h"
#include "fetch/net/http_ranges.h"

namespace sluice::fetch {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// A run is what one mirror fetches at a time: long enough that the pauses between requests do not count, and
/// taking not much more than this time, so that a slow mirror does not keep many pieces from others.
constexpr std::uint64_t kRunBytesFirst = 1 << 20;
constexpr std::uint64_t kRunBytesMax = 8 << 20;
constexpr auto kRunTime = milliseconds(4'000);
/// A transfer that breaks off later than this has been worth it, and goes on from there at once.
constexpr std::uint64_t kWorthBytes = 256 << 10;
constexpr std::size_t kWrongPiecesMax = 3;
constexpr std::size_t kAbsentFilesMax = 3;  // before the first that is there
constexpr std::size_t kFileWarningsMax = 5;

/// Waits unless it is asked to stop.
void pause(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
}

/// One rate for all: whoever has received waits until the bytes would have arrived at that rate. Meanwhile
/// its socket's buffer fills, and TCP slows the sender down.
class Pacer {
 public:
  explicit Pacer(std::uint64_t bytes_per_s) : bytes_per_s_(static_cast<double>(bytes_per_s)) {}

  void set_rate(std::uint64_t bytes_per_s) {
    {
      const std::lock_guard lock(mutex_);
      pay();
      bytes_per_s_ = static_cast<double>(bytes_per_s);
    }
    changed_.notify_all();
  }

  void take(std::uint64_t bytes, const std::stop_token& stop) {
    constexpr std::chrono::duration<double> kLongest(60);
    std::unique_lock lock(mutex_);
    pay();
    early_bytes_ += static_cast<double>(bytes);
    while (bytes_per_s_ > 0 && early_bytes_ > 0 && !stop.stop_requested()) {
      const std::chrono::duration<double> due(early_bytes_ / bytes_per_s_);
      changed_.wait_for(lock, stop, std::min(due, kLongest),
                        [this, rate = bytes_per_s_] { return bytes_per_s_ != rate; });
      pay();
    }
  }

 private:
  void pay() {
    const auto now = Clock::now();
    const std::chrono::duration<double> passed = now - paid_at_;
    paid_at_ = now;
    early_bytes_ = bytes_per_s_ > 0 ? std::max(0.0, early_bytes_ - passed.count() * bytes_per_s_) : 0;
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  double bytes_per_s_;  // 0: any
  double early_bytes_ = 0;
  Clock::time_point paid_at_ = Clock::now();
};

/// Consecutive bytes of one file that a run needs.
struct FilePart {
  std::size_t file_index = 0;
  std::uint64_t file_offset_bytes = 0;
  std::uint64_t run_offset_bytes = 0;
  std::uint64_t length_bytes = 0;
};

/// The bytes of a run, each piece in a vector of its own, as it will be delivered. Padding is zeros.
class RunBuffer {
 public:
  RunBuffer(const PieceMap& map, PieceRun run) {
    for (std::uint64_t i = 0; i < run.count; ++i)
      pieces_.emplace_back(static_cast<std::size_t>(map.piece_bytes(run.first + i)));
  }

  void write(std::uint64_t run_offset_bytes, std::span<const char> bytes) {
    const std::uint64_t piece_bytes = pieces_.front().size();  // only the last can be shorter
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

/// Pieces that the customer gave away, which are settled one after the other. Whatever happens, those that
/// are not delivered go back to it.
class TakenRun {
 public:
  TakenRun(PieceCustomer& customer, PieceRun run) : customer_(customer), left_(run) {}
  ~TakenRun() {
    while (left_.count > 0) give_back_next();
  }
  TakenRun(const TakenRun&) = delete;
  TakenRun& operator=(const TakenRun&) = delete;

  void deliver_next(std::vector<char> bytes) { customer_.deliver(take_next(), std::move(bytes)); }
  void give_back_next() { customer_.give_back(take_next()); }

 private:
  std::uint64_t take_next() {
    --left_.count;
    return left_.first++;
  }

  PieceCustomer& customer_;
  PieceRun left_;
};

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

std::string with_slash(std::string url) {
  if (!url.ends_with('/')) url += '/';
  return url;
}

}  // namespace

std::vector<std::string> file_urls(const format::ReleaseLayout& layout, std::size_t file_index,
                                   const std::string& url, UrlRule rule) {
  const std::string base = url.substr(0, url.find_first_of("?#"));
  const std::string query = url.substr(base.size(), url.find('#', base.size()) - base.size());
  const std::string path = percent_encode_path(layout.files.at(file_index).path);
  const std::string below = with_slash(base) + path + query;
  if (layout.single_file) {
    const std::string itself = base + query;
    if (rule == UrlRule::web_seed) return {base.ends_with('/') ? below : itself};
    return {below, itself};
  }
  const std::string in_folder = with_slash(base) + percent_encode_path(layout.name) + "/" + path + query;
  if (rule == UrlRule::web_seed) return {in_folder};
  return {below, in_folder};
}

struct MirrorPool::Shared {
  const format::ReleaseLayout& layout;
  const PieceMap& map;
  const PieceJudge& judge;
  const MirrorOptions options;
  PieceCustomer& customer;
  Pacer pacer;
  std::atomic<std::uint64_t> downloaded_bytes = 0;
  std::atomic<std::size_t> used_count = 0;
};

/// One server, on its own thread.
class MirrorPool::Mirror {
 public:
  Mirror(Shared& shared, const MirrorSource& source, std::stop_token stop)
      : shared_(shared),
        source_(source),
        stop_(std::move(stop)),
        title_((source.rule == UrlRule::mirror ? "mirror " : "web seed ") + source.contact.address),
        http_(http_options(shared.options, source), stop_),
        pause_(shared.options.pause_min) {}

  void run() {
    const std::function<bool(std::uint64_t)> has = [this](std::uint64_t piece) { return can_have(piece); };
    while (!left_ && !stop_.stop_requested()) {
      const auto count_max = std::max<std::uint64_t>(1, run_bytes_ / shared_.layout.piece_bytes);
      const PieceRun run = shared_.customer.take_pieces(count_max, has);
      if (run.count == 0)
        pause(shared_.options.ask_again_after, stop_);
      else
        get_run(run);
    }
  }

 private:
  static HttpOptions http_options(const MirrorOptions& options, const MirrorSource& source) {
    HttpOptions http{.allow_private = options.allow_private,
                     .trusted = source.contact.trusted,
                     .connect_timeout = options.connect_timeout,
                     .stall_timeout = options.stall_timeout};
    // It must not be our own limit, or a small share of it, that looks like a server that stalls.
    if (const std::uint64_t limit = options.limit_down_bytes_per_s; limit != 0)
      http.stall_below_bytes_per_s = std::min(http.stall_below_bytes_per_s, limit / 1024);
    return http;
  }

  // ---- What can be had here ----

  [[nodiscard]] bool can_have(std::uint64_t piece) const {
    if (wrong_pieces_.contains(piece)) return false;
    if (lost_files_.empty() && !shared_.judge.wants_node()) return true;
    const auto slices = shared_.map.slices(piece);
    return can_judge(slices) && std::ranges::none_of(slices, [&](const PieceSlice& slice) {
             return lost_files_.contains(slice.file_index);
           });
  }

  [[nodiscard]] bool can_judge(const std::vector<PieceSlice>& slices) const {
    if (shared_.judge.wants_sha1()) return true;
    const format::ReleaseFile& file = shared_.layout.files[slices.front().file_index];
    return file.length_bytes <= shared_.layout.piece_bytes || !file.piece_layer.empty();
  }

  // ---- One run ----

  void get_run(PieceRun run) {
    TakenRun taken(shared_.customer, run);
    RunBuffer buffer(shared_.map, run);
    const auto start = Clock::now();
    std::uint64_t complete_bytes = run.count * shared_.layout.piece_bytes;
    RangeAnswer answer{.outcome = RangeOutcome::complete};
    for (const FilePart& part : file_parts(shared_.map, shared_.layout.piece_bytes, run)) {
      answer = get_part(part, buffer);
      if (answer.outcome == RangeOutcome::complete) continue;
      complete_bytes = part.run_offset_bytes + answer.received_bytes;
      note_problem(part.file_index, answer);
      break;
    }
    hand_over(run, taken, buffer, complete_bytes);
    if (answer.outcome == RangeOutcome::complete) {
      adapt_run_length(Clock::now() - start);
    } else if (answer.outcome == RangeOutcome::failed && !left_) {
      pause(std::max<milliseconds>(pause_, answer.retry_after), stop_);
      pause_ = std::min(pause_ * 2, shared_.options.pause_max);
    }
  }

  void adapt_run_length(Clock::duration took) {
    failures_ = 0;
    pause_ = shared_.options.pause_min;
    if (took < kRunTime / 2) run_bytes_ = std::min(run_bytes_ * 2, kRunBytesMax);
    if (took > kRunTime) run_bytes_ = std::max(run_bytes_ / 2, std::uint64_t{1});
  }

  /// What the run has got from its start on without a gap.
  void hand_over(PieceRun run, TakenRun& taken, RunBuffer& buffer, std::uint64_t complete_bytes) {
    for (std::uint64_t i = 0; i < run.count; ++i) {
      std::vector<char>& bytes = buffer.piece(i);
      const bool complete = i * shared_.layout.piece_bytes + bytes.size() <= complete_bytes;
      if (complete && is_right(run.first + i, bytes))
        taken.deliver_next(std::move(bytes));
      else
        taken.give_back_next();
    }
  }

  [[nodiscard]] bool is_right(std::uint64_t piece, const std::vector<char>& bytes) {
    const PieceDigest digest = shared_.judge.digest(piece, std::as_bytes(std::span(bytes)));
    const Verdict verdict = shared_.judge.judge(piece, digest);
    if (verdict == Verdict::wrong) note_wrong(piece);
    return verdict == Verdict::right;
  }

  // ---- One file's part ----

  /// From where it was broken off as long as each try brings something.
  RangeAnswer get_part(const FilePart& part, RunBuffer& buffer) {
    FilePart rest = part;
    for (;;) {
      RangeAnswer answer = get_at_any_url(rest, buffer);
      const bool was_worth_it = answer.received_bytes >= kWorthBytes;
      rest.file_offset_bytes += answer.received_bytes;
      rest.run_offset_bytes += answer.received_bytes;
      rest.length_bytes -= answer.received_bytes;
      answer.received_bytes = part.length_bytes - rest.length_bytes;
      if (answer.outcome != RangeOutcome::failed || !was_worth_it || rest.length_bytes == 0) return answer;
    }
  }

  RangeAnswer get_at_any_url(const FilePart& part, RunBuffer& buffer) {
    const auto urls = file_urls(shared_.layout, part.file_index, source_.contact.address, source_.rule);
    std::optional<RangeAnswer> first;
    for (std::size_t i = 0; i < urls.size(); ++i) {
      const std::size_t index = (url_index_ + i) % urls.size();
      RangeAnswer answer = get(urls[index], part, buffer);
      if (answer.outcome == RangeOutcome::complete) {
        url_index_ = index;
        found_any_ = true;
      }
      if (answer.outcome != RangeOutcome::file_unusable) return answer;
      // Something else at one place says more than nothing at the other.
      if (!first || (first->absent && !answer.absent)) first = std::move(answer);
    }
    return *first;
  }

  RangeAnswer get(const std::string& url, const FilePart& part, RunBuffer& buffer) {
    const RangeRequest request{.url = url,
                               .offset_bytes = part.file_offset_bytes,
                               .length_bytes = part.length_bytes,
                               .file_bytes = shared_.layout.files[part.file_index].length_bytes};
    return http_.get(request, [&](std::uint64_t offset, std::span<const char> bytes) {
      buffer.write(part.run_offset_bytes + offset, bytes);
      shared_.downloaded_bytes += bytes.size();
      shared_.pacer.take(bytes.size(), stop_);
    });
  }

  // ---- What went wrong ----

  void note_problem(std::size_t file_index, const RangeAnswer& answer) {
    switch (answer.outcome) {
      case RangeOutcome::file_unusable: return lose_file(file_index, answer);
      case RangeOutcome::server_unusable: return leave(answer.why);
      case RangeOutcome::failed: return note_failure(answer.why);
      default: return;
    }
  }

  void lose_file(std::size_t file_index, const RangeAnswer& answer) {
    lost_files_.insert(file_index);
    if (lost_files_.size() <= kFileWarningsMax)
      warn(": '" + shared_.layout.files[file_index].path + "' cannot be had from it: " + answer.why);
    if (answer.absent) ++absent_files_;
    if (!found_any_ && absent_files_ == kAbsentFilesMax)
      leave("it has none of the files that were asked for");
  }

  void note_failure(const std::string& why) {
    ++failures_;
    if (failures_ >= shared_.options.failures_max)
      return leave("it failed " + std::to_string(failures_) + " times in a row, the last time: " + why);
    if (!failed_before_) warn(": " + why + "; it is tried again");
    failed_before_ = true;
  }

  void note_wrong(std::uint64_t piece) {
    wrong_pieces_.insert(piece);
    if (wrong_pieces_.size() > kWrongPiecesMax) return;  // of the run that was the last
    const auto slices = shared_.map.slices(piece);
    std::string what = "piece " + std::to_string(piece) + ", in '" +
                       shared_.layout.files[slices.front().file_index].path + "'";
    if (slices.size() > 1) what += " and " + std::to_string(slices.size() - 1) + " more";
    warn(": " + what + ", is not what the torrent says");
    if (wrong_pieces_.size() == kWrongPiecesMax)
      leave(std::to_string(kWrongPiecesMax) + " pieces were wrong, the last " + what);
  }

  void leave(const std::string& why) {
    if (left_) return;
    left_ = true;
    warn(" is not used any more: " + why);
  }

  void warn(const std::string& message) { shared_.customer.warn(title_ + message); }

  Shared& shared_;
  const MirrorSource source_;
  const std::stop_token stop_;
  const std::string title_;
  HttpRanges http_;
  std::uint64_t run_bytes_ = kRunBytesFirst;
  std::size_t url_index_ = 0;  // of file_urls(), where the last file was
  std::set<std::size_t> lost_files_;
  std::set<std::uint64_t> wrong_pieces_;
  std::size_t absent_files_ = 0;
  bool found_any_ = false;
  unsigned failures_ = 0;  // in a row
  milliseconds pause_;
  bool failed_before_ = false;
  bool left_ = false;
};

MirrorPool::MirrorPool(const format::ReleaseLayout& layout, const PieceMap& map, const PieceJudge& judge,
                       const std::vector<MirrorSource>& mirrors, const MirrorOptions& options,
                       PieceCustomer& customer)
    : shared_(new Shared{layout, map, judge, options, customer, Pacer(options.limit_down_bytes_per_s)}) {
  for (const MirrorSource& source : mirrors) {
    if (const std::string problem = web_seed_problem(source.contact.address); !problem.empty()) {
      customer.warn(source.contact.address + ": " + problem + ", and is not used");
      continue;
    }
    ++shared_->used_count;
    threads_.emplace_back([shared = shared_.get(), source](const std::stop_token& stop) {
      try {
        Mirror(*shared, source, stop).run();
      } catch (const std::exception& error) {
        shared->customer.warn(source.contact.address + " is not used any more: " + error.what());
      }
      --shared->used_count;
    });
  }
}

MirrorPool::~MirrorPool() {
  for (std::jthread& thread : threads_) thread.request_stop();  // all, before the first is waited for
}

void MirrorPool::limit_down(std::uint64_t bytes_per_s) { shared_->pacer.set_rate(bytes_per_s); }

std::uint64_t MirrorPool::downloaded_bytes() const { return shared_->downloaded_bytes; }
std::size_t MirrorPool::used_count() const { return shared_->used_count; }

}  // namespace sluice::fetch
