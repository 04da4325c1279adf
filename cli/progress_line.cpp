// advance() is called for every few kilobytes by many threads, so it only adds to an atomic counter;
// whichever thread gets the lock draws, at most ten times a second on a terminal, once a second with --json
// and once a minute elsewhere. A thread that does not get the lock goes on with its work: a count that it has
// added is drawn by a later call.

#include "cli/progress_line.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

using Clock = RateMeter::Clock;
using std::chrono::duration;
using std::chrono::milliseconds;

constexpr milliseconds kLivePeriod{100};
constexpr milliseconds kEventPeriod{1000};
// In a log, a line a minute shows that the work goes on, and a day has 1,440 of them.
constexpr std::chrono::minutes kPlainPeriod{1};
// The time constant of the average is long enough for bursts of pieces and short enough to follow a change of
// speed.
constexpr double kRateMemory_s = 5.0;
constexpr std::size_t kBarColumns = 24;
constexpr std::size_t kBarColumnsMin = 5;
constexpr std::size_t kBarFrame = 4;  // two spaces before the bar, and its brackets
// The remaining time is shown when the rate was measured for so long.
constexpr std::chrono::seconds kRateSettles{4};

// inside the brackets
std::string bar(double share, std::size_t columns) {
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(columns));
  return "[" + std::string(filled, '#') + std::string(columns - filled, ' ') + "]";
}

std::string count_text(const ProgressState& state, std::uint64_t count) {
  return state.bytes ? base::to_human_bytes(count) : with_commas(count);
}

// The texts of a line, each after two spaces; empty when there is nothing to say.
struct ProgressTexts {
  std::string head;  // phase and percent
  std::string amount;
  std::string amount_short;
  std::string rate;
  std::string left;
  std::string end;  // peers, or why nothing arrives
};

ProgressTexts make_texts(const ProgressState& state) {
  // "metadata  0 B  0 peers" would not say what is waited for.
  const bool looking = state.phase == "metadata" && state.peers == 0U;
  ProgressTexts texts{.head = looking ? "looking for peers" : std::string(state.phase)};
  if (state.total > 0) {
    const double share = std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total));
    // Rounded down, so that 100 % appears only when everything is done.
    texts.head += "  " + std::to_string(static_cast<int>(share * 100)) + " %";
  }
  texts.amount_short = "  " + count_text(state, state.done);
  texts.amount = texts.amount_short;
  if (state.total > 0) texts.amount += " of " + count_text(state, state.total);
  if (state.rate_per_s > 0) {
    texts.rate = "  " + count_text(state, static_cast<std::uint64_t>(std::llround(state.rate_per_s))) + "/s";
    if (state.total > state.done && state.rate_settled) {
      const double left_s = static_cast<double>(state.total - state.done) / state.rate_per_s;
      texts.left = "  " + base::to_human_seconds(left_s) + " left";
    }
  }
  if (!state.waiting.empty()) {
    texts.end = "  waiting: " + std::string(state.waiting);
  } else if (state.peers) {
    texts.end = "  " + base::to_counted(*state.peers, "peer");
  }
  return texts;
}

}  // namespace

std::string format_progress(const ProgressState& state, std::size_t columns) {
  ProgressTexts texts = make_texts(state);
  const auto tail = [&] { return texts.amount + texts.rate + texts.left + texts.end; };
  if (columns == 0) return texts.head + tail();
  const bool has_bar = state.total > 0;
  const auto room = [&] {
    // The line stays shorter than the terminal is wide, so that the cursor does not wrap.
    const std::size_t used = texts.head.size() + tail().size() + (has_bar ? kBarFrame + kBarColumnsMin : 0);
    return used < columns ? columns - used - 1 + kBarColumnsMin : 0;
  };
  // On a narrow terminal the bar shrinks first; then the total, peers, rate and amount go. The time left
  // stays longest, because it cannot be seen from the rest.
  if (room() == 0) texts.amount = texts.amount_short;
  for (std::string* text : {&texts.end, &texts.rate, &texts.amount}) {
    // Why nothing arrives is the news of a line that stands still.
    if (text == &texts.end && !state.waiting.empty()) continue;
    if (room() == 0) text->clear();
  }
  const double share =
      has_bar ? std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total)) : 0;
  std::string line = texts.head;
  if (has_bar && room() > 0) line += "  " + bar(share, std::min(room(), kBarColumns));
  line += tail();
  if (line.size() >= columns) line.resize(columns - 1);
  return line;
}

void RateMeter::reset(std::uint64_t count, Clock::time_point now) {
  last_count_ = count;
  start_ = last_ = now;
  rate_ = 0;
  moving_ = false;
}

double RateMeter::update(std::uint64_t count, Clock::time_point now) {
  const double elapsed_s = duration<double>(now - last_).count();
  if (elapsed_s <= 0) return rate_;
  // The time before the first progress is no part of the rate.
  if (!moving_) {
    start_ = last_;
    moving_ = count > last_count_;
    if (!moving_) {
      last_ = now;
      return 0;
    }
  }
  // A count that falls must not wrap around; it counts as no progress.
  const double current = static_cast<double>(count - std::min(count, last_count_)) / elapsed_s;
  // An exponential average for samples at uneven times: a sample counts with 1 - exp(-elapsed / memory). In
  // the first five seconds the average is over the time since reset(), since it would otherwise start near
  // zero.
  const double age_s = duration<double>(now - start_).count();
  const double weight = 1 - std::exp(-elapsed_s / std::min(kRateMemory_s, std::max(age_s, elapsed_s)));
  rate_ = last_ == start_ ? current : rate_ + weight * (current - rate_);
  last_count_ = count;
  last_ = now;
  return rate_;
}

bool RateMeter::settled() const { return moving_ && last_ - start_ >= kRateSettles; }

void ProgressLine::begin(std::string_view phase, std::uint64_t total_bytes) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  total_ = total_bytes;
  done_ = 0;
  bytes_ = true;
  const auto now = now_();
  meter_.reset(0, now);
  // Nothing is drawn for the first moment, so short work shows no line at all. Plain lines are a minute
  // apart, however many phases begin meanwhile.
  const bool plain = !console_.json() && !console_.live();
  if (!plain || !next_draw_) next_draw_ = now + (plain ? period() : kLivePeriod);
}

void ProgressLine::advance(std::uint64_t bytes) {
  const std::uint64_t done = done_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  // One thread draws; the others skip drawing instead of waiting for the lock.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock.owns_lock()) draw(done);
}

void ProgressLine::set_done(std::uint64_t done, bool bytes) {
  const std::lock_guard lock(mutex_);
  done_ = done;
  bytes_ = bytes;
  draw(done);
}

void ProgressLine::show(ProgressState state) {
  const std::lock_guard lock(mutex_);
  if (due(now_())) print(state);
}

void ProgressLine::draw(std::uint64_t done) {
  const auto now = now_();
  if (!due(now)) return;
  ProgressState state{phase_, done, total_, meter_.update(done, now), std::nullopt, bytes_};
  state.rate_settled = meter_.settled();
  print(state);
}

void ProgressLine::print(const ProgressState& state) {
  if (console_.live()) {
    console_.show_status(format_progress(state, Console::status_columns()));
    return;
  }
  if (!console_.json()) {
    console_.note(format_progress(state, 0));
    return;
  }
  auto event = format::Json::object({{"event", "progress"},
                                     {"phase", state.phase},
                                     {"done", state.done},
                                     {"total", state.total},
                                     {"rate_per_s", state.rate_per_s}});
  if (state.peers) event.set("peers", *state.peers);
  if (state.availability) event.set("availability", *state.availability);
  if (!state.waiting.empty()) event.set("waiting", state.waiting);
  console_.event(event);
}

Clock::duration ProgressLine::period() const {
  if (console_.json()) return kEventPeriod;
  return console_.live() ? Clock::duration(kLivePeriod) : Clock::duration(kPlainPeriod);
}

bool ProgressLine::due(Clock::time_point now) {
  if (console_.quiet() && !console_.json()) return false;
  // The first plain line comes after its minute; a terminal and a program see the state at once.
  const bool plain = !console_.json() && !console_.live();
  if (!next_draw_) next_draw_ = plain ? now + period() : now;
  if (now < *next_draw_) return false;
  next_draw_ = now + period();
  return true;
}

}  // namespace sluice::cli
