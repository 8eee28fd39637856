;; An evaluator that asks the model whether an answer is right: 1 if the reply begins with y. The
;; weight of a score is the number of tokens of the reply. judge.wasm is this module, encoded as a
;; component of the world judge-plugin when 0.1.0 was released; it is never encoded again.
(module
  (import "graft:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "graft:plugin/model@0.1.0" "generate"
    (func $generate (param i32 i32 i32 i32 i32 i64 i32)))
  (import "[export]graft:plugin/evaluator@0.1.0" "[resource-new]run"
    (func $new (param i32) (result i32)))
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 65536))
  (data (i32.const 1024) "right")
  (data (i32.const 1032) "{\22type\22: \22object\22}")
  (data (i32.const 1056) "asked")
  (func (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $now i32)
    (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get $now)))
    (local.get $at))
  (func (export "graft:plugin/evaluator@0.1.0#describe") (result i32)
    ;; One metric at 4096: name, no unit, more is better.
    (i32.store (i32.const 4096) (i32.const 1024))
    (i32.store (i32.const 4100) (i32.const 5))
    (i32.store8 (i32.const 4112) (i32.const 1))
    (i32.store (i32.const 8192) (i32.const 4096))
    (i32.store (i32.const 8196) (i32.const 1))
    (i32.store (i32.const 8200) (i32.const 1032))
    (i32.store (i32.const 8204) (i32.const 18))
    (i32.const 8192))
  (func (export "graft:plugin/evaluator@0.1.0#start") (param i32 i32 i64) (result i32)
    (i64.store (i32.const 8192) (i64.const 0))
    (i32.store (i32.const 8200) (call $new (i32.const 7)))
    ;; The seed is kept at 8.
    (i64.store (i32.const 8) (local.get 2))
    (i32.const 8192))
  ;; The answer's text stands at 136 of the arguments: the run's handle, the sample, the prediction.
  (func (export "graft:plugin/evaluator@0.1.0#[method]run.score") (param $given i32) (result i32)
    (call $log (i32.const 1) (i32.const 1056) (i32.const 5))
    ;; A turn of the user at 4096, whose content is one text at 4160.
    (i32.store (i32.const 4096) (i32.const 1))
    (i32.store (i32.const 4100) (i32.const 4160))
    (i32.store (i32.const 4104) (i32.const 1))
    (i32.store (i32.const 4160) (i32.const 0))
    (i32.store (i32.const 4164) (i32.load offset=136 (local.get $given)))
    (i32.store (i32.const 4168) (i32.load offset=140 (local.get $given)))
    (call $generate
      (i32.const 4096) (i32.const 1) (i32.const 0) (i32.const 0)
      (i32.const 3) (i64.load (i32.const 8)) (i32.const 12288))
    ;; A score at 4224; an error of the model is a score of -1.
    (i32.store (i32.const 4224) (i32.const 1024))
    (i32.store (i32.const 4228) (i32.const 5))
    (f64.store (i32.const 4232) (f64.const -1))
    (f64.store (i32.const 4240) (f64.const 1))
    (if (i32.eqz (i32.load8_u (i32.const 12288)))
      (then
        (f64.store (i32.const 4232)
          (f64.convert_i32_u
            (i32.eq (i32.load8_u (i32.load (i32.const 12296))) (i32.const 121))))
        (f64.store (i32.const 4240) (f64.convert_i32_u (i32.load (i32.const 12308))))))
    (i64.store (i32.const 8192) (i64.const 0))
    (i32.store (i32.const 8200) (i32.const 4224))
    (i32.store (i32.const 8204) (i32.const 1))
    (global.set $top (i32.const 65536))
    (i32.const 8192))
  (func (export "graft:plugin/evaluator@0.1.0#[method]run.finish") (param i32) (result i32)
    (i64.store (i32.const 8192) (i64.const 0))
    (i64.store (i32.const 8200) (i64.const 0))
    (i32.const 8192)))
