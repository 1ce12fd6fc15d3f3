-- Context-reliant samples
-- Where does the salient part outside the boxes keep the class better than the salient part inside?
SELECT sample_id, label, context_reliance, p_saliency_in_context, p_saliency_in_box, p_context, p_box,
    drop_outside
FROM audit
WHERE evaluable AND context_reliance >= .5
ORDER BY context_reliance DESC, p_saliency_in_context DESC, sample_id
