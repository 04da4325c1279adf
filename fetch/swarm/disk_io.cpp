// Adapts PieceStore to lt::disk_interface. libtorrent calls the async_ functions in its network thread; the
// store calls back in its own threads, and post() brings each answer to the network thread, where handlers
// must run. `working_` keeps the network thread alive until abort(), so that no answer is lost. Invariant: no
// request to the store outlives this object (the destructor waits), because the requests refer to it.

#include "fetch/swarm/disk_io.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <future>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/disk_interface.hpp>
#include <libtorrent/disk_observer.hpp>
#include <libtorrent/file_storage.hpp>
#include <libtorrent/io_context.hpp>
#include <libtorrent/peer_request.hpp>
#include <memory>
#include <span>
#include <utility>

#include "base/bytes.h"

namespace sluice::fetch {
namespace {

/// libtorrent cannot carry our message; the committer and the store report it to the worker.
lt::storage_error to_lt(const PieceStore::Failure& failure, lt::operation_t operation) {
  if (!failure) return {};
  const int code = failure->kind() == base::ErrorKind::no_space ? ENOSPC : EIO;
  return {lt::error_code(code, boost::system::generic_category()), operation};
}

std::uint64_t to_index(lt::piece_index_t piece) {
  return static_cast<std::uint64_t>(static_cast<int>(piece));
}

class DiskIo final : public lt::disk_interface, public lt::buffer_allocator_interface {
 public:
  DiskIo(PieceStore& store, OnBlock on_block, lt::io_context& context)
      : store_(store),
        on_block_(std::move(on_block)),
        context_(context),
        working_(boost::asio::make_work_guard(context)) {}

  ~DiskIo() override { wait_for_store(); }

  void free_disk_buffer(char* buffer) override { const std::unique_ptr<char[]> owner(buffer); }

  // A session of ours has one torrent, so one storage index serves, and the functions below ignore it.
  lt::storage_holder new_torrent(const lt::storage_params&, const std::shared_ptr<void>&) override {
    return {lt::storage_index_t{0}, *this};
  }
  void remove_torrent(lt::storage_index_t) override {}

  void async_read(lt::storage_index_t, const lt::peer_request& request,
                  std::function<void(lt::disk_buffer_holder, const lt::storage_error&)> handler,
                  lt::disk_job_flags_t) override {
    const auto length = static_cast<std::size_t>(request.length);
    // The buffer goes to libtorrent at the end, which returns it to free_disk_buffer(). A shared pointer
    // holds it until then, because std::function must be copyable and because the answer may never be
    // delivered.
    const auto buffer = std::make_shared<std::unique_ptr<char[]>>(new char[length]);
    const base::MutableBytes out(reinterpret_cast<std::byte*>(buffer->get()), length);
    store_.read(to_index(request.piece), static_cast<std::uint64_t>(request.start), out,
                [this, buffer, length, handler = std::move(handler)](const PieceStore::Failure& failure) {
                  post([this, buffer, length, handler, error = to_lt(failure, lt::operation_t::file_read)] {
                    handler(lt::disk_buffer_holder(*this, buffer->release(), static_cast<int>(length)),
                            error);
                  });
                });
  }

  bool async_write(lt::storage_index_t, const lt::peer_request& request, const char* buffer,
                   std::shared_ptr<lt::disk_observer> observer,
                   std::function<void(const lt::storage_error&)> handler, lt::disk_job_flags_t) override {
    const base::Bytes block(reinterpret_cast<const std::byte*>(buffer),
                            static_cast<std::size_t>(request.length));
    if (on_block_)
      on_block_(observer.get(), to_index(request.piece),
                static_cast<std::uint64_t>(request.start) / kBlockBytes);
    const bool room = store_.write(
        to_index(request.piece), static_cast<std::uint64_t>(request.start), block,
        [this, handler = std::move(handler)](const PieceStore::Failure& failure) {
          post([handler, error = to_lt(failure, lt::operation_t::file_write)] { handler(error); });
        },
        // The observer is the connection of a peer. It may have been closed by the time that there is room.
        [this, waiting = std::weak_ptr<lt::disk_observer>(observer)] {
          post([waiting] {
            if (const auto peer = waiting.lock()) peer->on_disk();
          });
        });
    return !room;  // libtorrent asks whether the queue is full
  }

  void async_hash(lt::storage_index_t, lt::piece_index_t piece, lt::span<lt::sha256_hash> v2,
                  lt::disk_job_flags_t,
                  std::function<void(lt::piece_index_t, const lt::sha1_hash&, const lt::storage_error&)>
                      handler) override {
    store_.hash(to_index(piece), [this, piece, v2,
                                  handler = std::move(handler)](const PieceStore::HashResult& result) {
      // The owner of `v2` does not touch it before the handler is called.
      // libtorrent wants the leaves and builds the tree itself; for a v1 torrent `v2` is empty. Leaves of a
      // hybrid's wrong piece are left zero, which libtorrent takes for wrong: it would put them into its tree
      // otherwise, where they make right pieces fail later, and it stops the torrent because the v1 and v2
      // hashes seem to differ (2.0.8).
      const bool wrong_hybrid = result.digest.sha1 && result.match == MatchResult::mismatch;
      const auto count =
          wrong_hybrid ? 0 : std::min(static_cast<std::size_t>(v2.size()), result.leaves.size());
      for (std::size_t i = 0; i < count; ++i)
        v2[static_cast<std::ptrdiff_t>(i)] = lt::sha256_hash(base::as_text(result.leaves[i].bytes).data());
      lt::sha1_hash sha1;
      if (result.digest.sha1) sha1 = lt::sha1_hash(base::as_text(result.digest.sha1->bytes).data());
      post([piece, sha1, handler, error = to_lt(result.failure, lt::operation_t::file_read)] {
        handler(piece, sha1, error);
      });
    });
  }

  void async_hash2(lt::storage_index_t, lt::piece_index_t piece, int offset, lt::disk_job_flags_t,
                   std::function<void(lt::piece_index_t, const lt::sha256_hash&, const lt::storage_error&)>
                       handler) override {
    store_.hash_block(
        to_index(piece), static_cast<std::uint64_t>(offset),
        [this, piece, handler = std::move(handler)](const base::Sha256& digest,
                                                    const PieceStore::Failure& failure) {
          post([piece, handler, hash = lt::sha256_hash(base::as_text(digest.bytes).data()),
                error = to_lt(failure, lt::operation_t::file_read)] { handler(piece, hash, error); });
        });
  }

  void async_release_files(lt::storage_index_t, std::function<void()> handler) override {
    flush(std::move(handler));
  }
  void async_stop_torrent(lt::storage_index_t, std::function<void()> handler) override {
    flush(std::move(handler));
  }

  /// add_torrent_params already say which pieces are present, so there is nothing to check. libtorrent calls
  /// this without parameters when a seed has met a damaged piece (2.0.8); a full check then keeps the good
  /// pieces shared.
  void async_check_files(lt::storage_index_t, const lt::add_torrent_params* added,
                         lt::aux::vector<std::string, lt::file_index_t>,
                         std::function<void(lt::status_t, const lt::storage_error&)> handler) override {
    const lt::status_t status = added ? lt::status_t::no_error : lt::status_t::need_full_check;
    post([handler = std::move(handler), status] { handler(status, {}); });
  }

  void async_set_file_priority(lt::storage_index_t,
                               lt::aux::vector<lt::download_priority_t, lt::file_index_t> priorities,
                               std::function<void(const lt::storage_error&,
                                                  lt::aux::vector<lt::download_priority_t, lt::file_index_t>)>
                                   handler) override {
    post([handler = std::move(handler), priorities = std::move(priorities)] { handler({}, priorities); });
  }

  void async_clear_piece(lt::storage_index_t, lt::piece_index_t piece,
                         std::function<void(lt::piece_index_t)> handler) override {
    store_.forget(to_index(piece), [this, piece, handler = std::move(handler)] {
      post([piece, handler] { handler(piece); });
    });
  }

  // libtorrent must not move, rename or remove files.
  void async_move_storage(
      lt::storage_index_t, std::string path, lt::move_flags_t,
      std::function<void(lt::status_t, const std::string&, const lt::storage_error&)> handler) override {
    post([handler = std::move(handler), path = std::move(path)] {
      handler(lt::status_t::fatal_disk_error, path, refusal(lt::operation_t::file_rename));
    });
  }
  void async_rename_file(
      lt::storage_index_t, lt::file_index_t file, std::string name,
      std::function<void(const std::string&, lt::file_index_t, const lt::storage_error&)> handler) override {
    post([handler = std::move(handler), file, name = std::move(name)] {
      handler(name, file, refusal(lt::operation_t::file_rename));
    });
  }
  void async_delete_files(lt::storage_index_t, lt::remove_flags_t,
                          std::function<void(const lt::storage_error&)> handler) override {
    post([handler = std::move(handler)] { handler(refusal(lt::operation_t::file_remove)); });
  }

  void update_stats_counters(lt::counters&) const override {}
  std::vector<lt::open_file_state> get_status(lt::storage_index_t) const override { return {}; }
  /// Lets the network thread end only after all answers have arrived. An answer that is never delivered would
  /// keep its torrent, which refers to this object, alive for too long.
  void abort(bool) override {
    flush([this] { working_.reset(); });
  }
  void submit_jobs() override {}
  void settings_updated() override {}

 private:
  static lt::storage_error refusal(lt::operation_t operation) {
    return {lt::error_code(EOPNOTSUPP, boost::system::generic_category()), operation};
  }

  /// Runs a handler in the network thread.
  template <typename Handler>
  void post(Handler handler) {
    boost::asio::post(context_, std::move(handler));
  }

  void flush(std::function<void()> handler) {
    store_.flush([this, handler = std::move(handler)] {
      if (handler) post(handler);
    });
  }

  /// Requests to the store refer to this object.
  void wait_for_store() {
    std::promise<void> idle;
    store_.flush([&idle] { idle.set_value(); });
    idle.get_future().wait();
  }

  PieceStore& store_;
  OnBlock on_block_;
  lt::io_context& context_;
  boost::asio::executor_work_guard<lt::io_context::executor_type> working_;
};

}  // namespace

lt::disk_io_constructor_type make_disk_io(PieceStore& store, OnBlock on_block) {
  return [&store, on_block = std::move(on_block)](lt::io_context& context, const lt::settings_interface&,
                                                  lt::counters&) {
    return std::make_unique<DiskIo>(store, on_block, context);
  };
}

}  // namespace sluice::fetch
